/* SPDX-License-Identifier: MIT
 *
 * Files below a directory. The path is walked a name at a time, each opened relative to the one before and
 * without following links: so there is no race with somebody who renames directories meanwhile, either.
 *
 * These calls can block, if a disk is slow. Most often they don't, so no thread of the pool is asked to run
 * them (routine_blocking): if they take too long the routine loses its worker.
 */
#define _GNU_SOURCE
#include "http_server.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

static int status_of(int error)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR:
    case ELOOP: /* a symbolic link */
    case ENXIO: /* a socket, a device that isn't there */
    case ENAMETOOLONG:
        return -404;
    case EACCES:
    case EPERM:
        return -403;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
        return -503;
    default:
        return -500;
    }
}

int open_file(int root, const char *path, struct stat *status)
{
    int at = root, rc = 0;
    bool last = false;
    for (const char *segment = path + 1; !last; segment += strcspn(segment, "/") + 1) {
        char name[256] = "index.html";
        const size_t n = strcspn(segment, "/");
        int next = -1;
        last = segment[n] == '\0';
        errno = ENOENT;
        if (n < sizeof name && *segment != '.') {
            if (n > 0)
                memcpy(name, segment, n), name[n] = '\0';
            const int flags = last ? O_RDONLY | O_NONBLOCK | O_NOCTTY : O_PATH | O_DIRECTORY;
            next = openat(at, name, flags | O_NOFOLLOW | O_CLOEXEC);
        }
        rc = next < 0 ? status_of(errno) : 0;
        if (at != root)
            close(at);
        at = next;
        if (rc != 0)
            return rc;
    }
    if (fstat(at, status) != 0)
        rc = status_of(errno);
    else if (!S_ISREG(status->st_mode))
        rc = S_ISDIR(status->st_mode) ? -301 : -404;
    if (rc != 0) {
        close(at);
        return rc;
    }
    return at;
}

const char *media_type(const char *path)
{
    static const char *const types[][2] = {
        {"html", "text/html; charset=utf-8"},
        {"htm", "text/html; charset=utf-8"},
        {"css", "text/css; charset=utf-8"},
        {"js", "text/javascript; charset=utf-8"},
        {"mjs", "text/javascript; charset=utf-8"},
        {"txt", "text/plain; charset=utf-8"},
        {"md", "text/plain; charset=utf-8"},
        {"c", "text/plain; charset=utf-8"},
        {"h", "text/plain; charset=utf-8"},
        {"json", "application/json"},
        {"xml", "application/xml"},
        {"pdf", "application/pdf"},
        {"wasm", "application/wasm"},
        {"png", "image/png"},
        {"jpg", "image/jpeg"},
        {"jpeg", "image/jpeg"},
        {"gif", "image/gif"},
        {"svg", "image/svg+xml"},
        {"ico", "image/x-icon"},
        {"webp", "image/webp"},
        {"woff2", "font/woff2"},
        {"mp4", "video/mp4"},
    };
    const char *slash = strrchr(path, '/'), *dot = strrchr(path, '.');
    if (slash != NULL && slash[1] == '\0')
        return types[0][1]; /* its index.html */
    if (dot != NULL && (slash == NULL || dot > slash))
        for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
            if (strcasecmp(dot + 1, types[i][0]) == 0)
                return types[i][1];
    return "application/octet-stream";
}
