/* SPDX-License-Identifier: MIT
 *
 * What the parts of the server share: its settings and counts, the connections (connection.c), and the files
 * that it serves (files.c).
 */
#ifndef EXAMPLES_HTTP_SERVER_H
#define EXAMPLES_HTTP_SERVER_H

#include <routines.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

struct server {
    int root;        /* the directory whose files are served; -1: none */
    int64_t receive; /* a head must have arrived within so many ns, and so must a body */
    int64_t idle;    /* a connection without a request lives so long */
    int64_t write;   /* a client must take 128 KiB, or what there is, within so long */
    int64_t started;
    atomic_bool stopping;
    atomic_size_t accepted, ended, requests; /* of requests, those counted until now */
};

struct connection {
    struct server *server;
    int fd;
};

/* A child of a scope: serves a connection (struct connection) to its end, and closes it. It is no failure, in
 * whatever way it ends. A cancellation ends it where it waits for a request, not within one. */
int serve_connection(void *arg);

/*
 * Opens the file of a path as http_path() makes them; "/" at the end means index.html. What lies outside the
 * root can't be reached: symbolic links are not followed. Names that begin with '.' do not exist. Returns a
 * descriptor, and what fstat says; or a status of HTTP, negative: -301 a directory; -403; -404, also for what
 * is no regular file; -500; -503 no descriptor to be had.
 */
int open_file(int root, const char *path, struct stat *status);

/* The media type of a file, by the end of its name. */
const char *media_type(const char *path);

#endif
