// SPDX-License-Identifier: MIT
//
// The servers of bench/servers, as tokio would have them: listens on 127.0.0.1 (port 0: any), prints the port, serves
// until it is killed. One worker is the current_thread scheduler, unless "multi" asks for the multi_thread one with one
// thread.
use std::io;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const REPLY: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 14\r\n\r\nHello, world!\n";

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0u8; 1024];
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..n]).await?;
    }
}

// Requests without bodies: each ends with an empty line. What comes in one read is answered by one write.
async fn http(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0u8; 1024];
    let mut replies = Vec::with_capacity(REPLY.len());
    let mut blank = false; // nothing since the last newline
    loop {
        let n = stream.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        replies.clear();
        for &byte in &buffer[..n] {
            if byte == b'\n' {
                if blank {
                    replies.extend_from_slice(REPLY);
                }
                blank = !blank;
            } else if byte != b'\r' {
                blank = false;
            }
        }
        if !replies.is_empty() {
            stream.write_all(&replies).await?;
        }
    }
}

async fn serve(what: String, port: u16) -> io::Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        if what == "echo" {
            tokio::spawn(echo(stream));
        } else {
            tokio::spawn(http(stream));
        }
    }
}

// What is "echo" or "http".
pub fn run(what: String, port: u16, workers: usize, multi: bool) -> io::Result<()> {
    let mut builder = if workers == 1 && !multi {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    let runtime = builder.worker_threads(workers).enable_io().build()?;
    // a task as all others, so that the main thread does not drive the listener
    runtime.block_on(async move { tokio::spawn(serve(what, port)).await.expect("a panic") })
}
