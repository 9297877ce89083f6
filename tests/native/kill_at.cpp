// Preloaded by tests/test_repair.py: the process kills itself before the KILL_AT-th call that changes a file or a
// directory.
#include <dlfcn.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static void count() {
  static int calls = 0;
  const char* at = getenv("KILL_AT");
  if (at != nullptr && ++calls == atoi(at)) kill(getpid(), SIGKILL);
}

#define INTERPOSE(result, name, parameters, arguments)                       \
  extern "C" result name parameters {                                        \
    static auto* next = reinterpret_cast<result(*) parameters>(dlsym(RTLD_NEXT, #name)); \
    count();                                                                 \
    return next arguments;                                                   \
  }

INTERPOSE(ssize_t, pwritev, (int fd, const iovec* parts, int number, off_t offset), (fd, parts, number, offset))
INTERPOSE(ssize_t, pwritev64, (int fd, const iovec* parts, int number, off64_t offset), (fd, parts, number, offset))
INTERPOSE(int, fdatasync, (int fd), (fd))
INTERPOSE(int, fsync, (int fd), (fd))
INTERPOSE(int, ftruncate, (int fd, off_t length), (fd, length))
INTERPOSE(int, ftruncate64, (int fd, off64_t length), (fd, length))
INTERPOSE(int, link, (const char* from, const char* to), (from, to))
INTERPOSE(int, rename, (const char* from, const char* to), (from, to))
INTERPOSE(int, unlink, (const char* path), (path))
