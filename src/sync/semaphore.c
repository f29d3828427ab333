/* SPDX-License-Identifier: MIT
 *
 * Floor 6. The counting semaphore: permits, or else a queue of those who wait for one.
 */
#include <string.h>

#include "sync.h"

typedef struct {
    rt_bias bias;
    /* under it */
    rt_queue queue;
    size_t permits;
} semaphore;

RT_SYNC_FITS(routine_sem_t, semaphore);
_Static_assert(offsetof(semaphore, permits) == 5 * sizeof(uintptr_t),
               "ROUTINE_SEM_INITIALIZER sets the sixth word");

RT_INLINE semaphore *inside(routine_sem_t *s)
{
    return (semaphore *)(void *)s;
}

int routine_sem_init(routine_sem_t *sem, size_t permits)
{
    if (!sem || permits > (size_t)ROUTINE_SEM_MAX)
        return -EINVAL;
    memset(sem, 0, sizeof *sem);
    inside(sem)->permits = permits;
    return 0;
}

int routine_sem_wait(routine_sem_t *sem)
{
    if (RT_UNLIKELY(!sem))
        return -EINVAL;
    semaphore *s = inside(sem);
    rt_thread *t = rt_self();
    const int stop = rt_frame_stop(t->current);
    if (RT_UNLIKELY(stop != 0))
        return stop;
    rt_enter_as(t);
    rt_seat *how = rt_bias_enter(&s->bias, t->seat);
    if (RT_UNLIKELY(s->permits == 0))
        return rt_sync_wait(&s->bias, &s->queue, how);
    s->permits--;
    rt_bias_leave(&s->bias, how);
    rt_leave_as(t);
    return 0;
}

int routine_sem_trywait(routine_sem_t *sem)
{
    if (RT_UNLIKELY(!sem))
        return -EINVAL;
    semaphore *s = inside(sem);
    rt_thread *t = rt_enter();
    rt_seat *how = rt_bias_enter(&s->bias, t->seat);
    const bool got = s->permits != 0;
    s->permits -= got;
    rt_bias_leave(&s->bias, how);
    rt_leave_as(t);
    return got ? 0 : -EAGAIN;
}

int routine_sem_post(routine_sem_t *sem)
{
    if (RT_UNLIKELY(!sem))
        return -EINVAL;
    semaphore *s = inside(sem);
    int rc = 0;
    rt_thread *t = rt_enter();
    rt_seat *how = rt_bias_enter(&s->bias, t->seat);
    rt_waiter *w = rt_queue_take(&s->queue);
    rt_block *wake = w ? w->who : NULL;
    if (w)
        w->result = 0;
    if (!w && s->permits == (size_t)ROUTINE_SEM_MAX)
        rc = -EOVERFLOW;
    else if (!w)
        s->permits++;
    rt_bias_leave(&s->bias, how);
    if (wake)
        rt_ready_block(wake);
    rt_leave_as(t);
    return rc;
}

int routine_sem_getvalue(routine_sem_t *sem, size_t *permits)
{
    if (!sem || !permits)
        return -EINVAL;
    semaphore *s = inside(sem);
    rt_thread *t = rt_enter();
    rt_seat *how = rt_bias_enter(&s->bias, t->seat);
    *permits = s->permits;
    rt_bias_leave(&s->bias, how);
    rt_leave_as(t);
    return 0;
}
