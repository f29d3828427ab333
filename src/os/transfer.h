/* SPDX-License-Identifier: MIT
 *
 * Floor 1. The system calls that move bytes from one descriptor to another inside the kernel.
 *
 * Results are bytes moved, 0 at the end of the file, or a negative errno; errno itself is left as it was,
 * EINTR does not happen. What writes can raise SIGPIPE: not here, it is held back and taken off again.
 * `masked` says that the calling thread has it blocked anyway, as the library's own threads have.
 */
#ifndef RT_OS_TRANSFER_H
#define RT_OS_TRANSFER_H

#include <sys/types.h>

#include "../base/base.h"

typedef enum rt_transfer_type {
    RT_TRANSFER_FILE,   /* a regular file */
    RT_TRANSFER_PIPE,   /* a pipe or fifo */
    RT_TRANSFER_STREAM, /* a stream socket */
    RT_TRANSFER_OTHER
} rt_transfer_type;

typedef struct rt_transfer_end {
    rt_transfer_type type;
    bool nonblocking; /* the descriptor is */
} rt_transfer_end;

/* What a descriptor is; -EBADF. */
int rt_transfer_look(int fd, rt_transfer_end *what);

/* As sendfile(2). Waits, if `to` does. */
ssize_t rt_transfer_sendfile(int to, int from, off_t *offset, size_t size, bool masked);

/* As splice(2), from a file to a pipe. Does not wait: -EAGAIN. */
ssize_t rt_transfer_splice(int to, int from, off_t *offset, size_t size, bool masked);

/* As copy_file_range(2), at the other file's own position. */
ssize_t rt_transfer_range(int to, int from, off_t *offset, size_t size);

/* As lseek(2). */
off_t rt_transfer_seek(int fd, off_t offset, int whence);

#endif
