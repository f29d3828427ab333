// SPDX-License-Identifier: MIT
//
// The servers of bench/servers, as Go would have them:
//
//	peer-go-net echo|http|nethttp PORT WORKERS
//
// Listens on 127.0.0.1 (port 0: any), prints the port, serves until it is killed. "http" is on bare sockets,
// "nethttp" is net/http.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
)

const reply = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nHello, world!\n"

func echo(c net.Conn) {
	defer c.Close()
	var buffer [1024]byte
	for {
		n, err := c.Read(buffer[:])
		if err != nil {
			return
		}
		if _, err := c.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// Requests without bodies: each ends with an empty line. What comes in one read is answered by one write.
func hello(c net.Conn) {
	defer c.Close()
	var buffer [1024]byte
	var replies []byte
	blank := false // nothing since the last newline
	for {
		n, err := c.Read(buffer[:])
		if err != nil {
			return
		}
		replies = replies[:0]
		for _, b := range buffer[:n] {
			if b == '\n' {
				if blank {
					replies = append(replies, reply...)
				}
				blank = !blank
			} else if b != '\r' {
				blank = false
			}
		}
		if len(replies) > 0 {
			if _, err := c.Write(replies); err != nil {
				return
			}
		}
	}
}

func main() {
	workers := 0
	if len(os.Args) == 4 {
		workers, _ = strconv.Atoi(os.Args[3])
	}
	if workers < 1 {
		fmt.Fprintln(os.Stderr, "usage: peer-go-net echo|http|nethttp PORT WORKERS")
		os.Exit(2)
	}
	runtime.GOMAXPROCS(workers)
	listener, err := net.Listen("tcp4", "127.0.0.1:"+os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	if os.Args[1] == "nethttp" {
		log.Fatal(http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			io.WriteString(w, "Hello, world!\n")
		})))
	}
	serve := echo
	if os.Args[1] == "http" {
		serve = hello
	}
	for {
		c, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(c)
	}
}
