"""Android's C library, as far as onnxruntime-android's arm64 library asks for it, over glibc's: a stand-in for a phone.

The library itself runs unmodified. Most functions are one instruction away from glibc's of the same name; those whose structures or
constants differ between the two are written out below. Source: bionic, libc/include (AOSP 14): the sizes and numbers.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

COMPILER = "aarch64-linux-gnu-gcc"

#: Written out in C: name → definition, `NAME` standing for the function itself.
FUNCTIONS = {
    "__errno": "int *NAME(void) { return &errno; }",
    "fflush": "int NAME(FILE *f) { return fflush(f ? known(f) : NULL); }",
    "fwrite": "size_t NAME(const void *p, size_t n, size_t c, FILE *f) { return fwrite(p, n, c, known(f)); }",
    "fputc": "int NAME(int c, FILE *f) { return fputc(c, known(f)); }",
    "fputs": "int NAME(const char *s, FILE *f) { return fputs(s, known(f)); }",
    "fputwc": "wint_t NAME(wchar_t c, FILE *f) { return fputwc(c, known(f)); }",
    "vfprintf": "int NAME(FILE *f, const char *s, va_list a) { return vfprintf(known(f), s, a); }",
    "fprintf": "int NAME(FILE *f, const char *s, ...) { va_list a; va_start(a, s); int n = vfprintf(known(f), s, a); va_end(a); return n; }",
    "fileno": "int NAME(FILE *f) { return fileno(known(f)); }",
    "getc": "int NAME(FILE *f) { return getc(known(f)); }",
    "ungetc": "int NAME(int c, FILE *f) { return ungetc(c, known(f)); }",
    "getwc": "wint_t NAME(FILE *f) { return getwc(known(f)); }",
    "ungetwc": "wint_t NAME(wint_t c, FILE *f) { return ungetwc(c, known(f)); }",
    "__FD_ISSET_chk": "int NAME(int d, const fd_set *s, size_t n) { return FD_ISSET(d, s); }",
    "__FD_SET_chk": "void NAME(int d, fd_set *s, size_t n) { FD_SET(d, s); }",
    "__gnu_strerror_r": "char *NAME(int e, char *b, size_t n) { return strerror_r(e, b, n); }",
    "strerror_r": "extern int __xpg_strerror_r(int, char *, size_t); int NAME(int e, char *b, size_t n) { return __xpg_strerror_r(e, b, n); }",
    "__memset_chk": "void *NAME(void *d, int c, size_t n, size_t m) { return memset(d, c, n); }",
    "__memcpy_chk": "void *NAME(void *d, const void *s, size_t n, size_t m) { return memcpy(d, s, n); }",
    "open": "int NAME(const char *p, int f, ...) { va_list a; va_start(a, f); int m = va_arg(a, int); va_end(a); return open(there(p), f, m); }",
    "__open_2": "int NAME(const char *p, int f) { return open(there(p), f); }",
    "__strchr_chk": "char *NAME(const char *s, int c, size_t n) { return strchr(s, c); }",
    "__strlen_chk": "size_t NAME(const char *s, size_t n) { return strlen(s); }",
    "__vsnprintf_chk": "int NAME(char *d, size_t n, int f, size_t m, const char *s, va_list a) { return vsnprintf(d, n, s, a); }",
    "__vsprintf_chk": "int NAME(char *d, int f, size_t m, const char *s, va_list a) { return vsprintf(d, s, a); }",
    "__system_property_get": "int NAME(const char *n, char *v) { *v = 0; return 0; }",
    "android_set_abort_message": 'void NAME(const char *m) { fprintf(stderr, "abort: %s\\n", m ? m : ""); }',
    "__register_atfork": "int NAME(void *a, void *b, void *c, void *d) { return 0; }",
    "__stack_chk_fail": "void NAME(void) { abort(); }",
    # bionic's sigset_t is one long.
    "sigfillset": "int NAME(unsigned long *s) { *s = ~0ul; return 0; }",
    "pthread_sigmask": "int NAME(int h, const unsigned long *s, unsigned long *o) { return syscall(SYS_rt_sigprocmask, h, s, o, 8) ? errno : 0; }",
    "sysconf": """long NAME(int name) {
  switch (name) {
    case 0x27: case 0x28: return sysconf(_SC_PAGESIZE);
    case 0x60: return sysconf(_SC_NPROCESSORS_CONF);
    case 0x61: return sysconf(_SC_NPROCESSORS_ONLN);
    case 0x62: return sysconf(_SC_PHYS_PAGES);
    case 0x63: return sysconf(_SC_AVPHYS_PAGES);
    default: fprintf(stderr, "fake_bionic: sysconf(%#x)\\n", name); return -1;
  }
}""",
    "pathconf": "long NAME(const char *p, int n) { return 4096; }",
    # bionic's pthread_mutex_t has 40 bytes, glibc's 48: its last 8 are not used.
    "pthread_mutex_init": "int NAME(char *m, const pthread_mutexattr_t *a) { pthread_mutex_t t; int r = pthread_mutex_init(&t, a); memcpy(m, &t, 40); return r; }",
    "pthread_attr_init": "struct attributes { unsigned flags; void *base; size_t size; char rest[32]; }; int NAME(struct attributes *a) { memset(a, 0, sizeof *a); return 0; }",
    "pthread_attr_destroy": "int NAME(struct attributes *a) { return 0; }",
    "pthread_attr_setstacksize": "int NAME(struct attributes *a, size_t n) { a->size = n; return 0; }",
    "pthread_create": """int NAME(pthread_t *t, const struct attributes *a, void *(*f)(void *), void *p) {
  pthread_attr_t own;
  pthread_attr_init(&own);
  if (a && a->size) pthread_attr_setstacksize(&own, a->size);
  int r = pthread_create(t, &own, f, p);
  pthread_attr_destroy(&own);
  return r;
}""",
}
#: Streams are addresses in bionic: `stdin` is &__sF[0], and a FILE has 152 bytes.
HEAD = """#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <wchar.h>
char fake___sF[3 * 152];
FILE *fake_stdin, *fake_stdout, *fake_stderr;
__attribute__((constructor)) static void streams(void) { fake_stdin = stdin; fake_stdout = stdout; fake_stderr = stderr; }
static FILE *known(FILE *f) {
  long at = (char *)f - fake___sF;
  if (at < 0 || at >= (long)sizeof fake___sF) return f;
  return at < 152 ? stdin : at < 304 ? stdout : stderr;
}
static const char *there(const char *path) { return strcmp(path, "/proc/cpuinfo") ? path : CPUINFO; }
"""
#: The library looks up what it runs on, and stumbles over the host's own answer.
CPUINFO = """processor\t: {}
BogoMIPS\t: 50.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x4
CPU part\t: 0xd0b
CPU revision\t: 1

"""
DATA = ("__sF", "stdin", "stdout", "stderr")
LOG = """#include <stdarg.h>
#include <stdio.h>
int __android_log_write(int p, const char *t, const char *m) { return fprintf(stderr, "%s: %s\\n", t, m); }
int __android_log_vprint(int p, const char *t, const char *f, va_list a) { return vfprintf(stderr, f, a); }
int __android_log_print(int p, const char *t, const char *f, ...) {
  va_list a; va_start(a, f); int n = vfprintf(stderr, f, a); va_end(a); return n;
}
"""


def build(library: Path, folder: Path) -> None:
    """Write libc.so, libm.so, libdl.so, liblog.so and libandroid.so for `library` into `folder`."""
    wanted = sorted(_undefined(library) | set(DATA))
    cpuinfo = folder / "cpuinfo"
    cpuinfo.write_text("".join(CPUINFO.format(i) for i in range(os.cpu_count() or 1)))
    lines = [f'#define CPUINFO "{cpuinfo}"', HEAD]
    lines += [text.replace("NAME", f"fake_{name}") for name, text in FUNCTIONS.items()]
    lines += [f'__asm__(".symver fake_{name},{name}@LIBC");' for name in (*DATA, *FUNCTIONS)]
    (folder / "libc.c").write_text("\n".join(lines))
    jumps = [n for n in wanted if n not in FUNCTIONS and n not in DATA]
    (folder / "jumps.S").write_text(
        "\n".join(["  .text", *map(_jump, jumps), '  .section .note.GNU-stack,"",@progbits', ""])
    )
    names = "; ".join(sorted({*wanted, *FUNCTIONS}))
    (folder / "libc.map").write_text(f"LIBC {{ global: {names}; local: *; }};\n")
    flags = [
        "-O1",
        "-w",
        "-fno-builtin",
        "-fno-stack-protector",
        "-U_FORTIFY_SOURCE",
        "-fPIC",
        "-shared",
    ]
    _compile(
        folder,
        [
            *flags,
            "libc.c",
            "jumps.S",
            "-Wl,--version-script=libc.map",
            "-Wl,-soname,libc.so",
            "-o",
            "libc.so",
            "-lm",
            "-ldl",
        ],
    )
    (folder / "liblog.c").write_text(LOG)
    _compile(folder, [*flags, "liblog.c", "-Wl,-soname,liblog.so", "-o", "liblog.so"])
    # What these have is in libc.so already, under the same version.
    for name in ("libm", "libdl", "libandroid"):
        (folder / "empty.c").write_text(f"void fake_{name}(void) {{}}\n")
        (folder / "empty.map").write_text(f"LIBC {{ global: fake_{name}; local: *; }};\n")
        _compile(
            folder,
            [
                *flags,
                "empty.c",
                "-Wl,--version-script=empty.map",
                f"-Wl,-soname,{name}.so",
                "-o",
                f"{name}.so",
            ],
        )


def _undefined(library: Path) -> set[str]:
    shown = subprocess.run(
        ["aarch64-linux-gnu-nm", "-D", "--undefined-only", str(library)],
        capture_output=True,
        text=True,
        check=True,
    )
    names = (line.split()[-1] for line in shown.stdout.splitlines())
    return {name.partition("@")[0] for name in names if "@LIBC" in name}


def _jump(name: str) -> str:
    """A function that goes on to glibc's of that name."""
    return f"""  .globl jump_{name}
  .type jump_{name}, @function
jump_{name}:
  hint #34
  adrp x16, :got:{name}
  ldr x16, [x16, :got_lo12:{name}]
  br x16
  .symver jump_{name}, {name}@LIBC"""


def _compile(folder: Path, arguments: list[str]) -> None:
    done = subprocess.run([COMPILER, *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
