/*
 * strata-zstd compresses pieces of layers by libzstd, for strata, which is Go without C: libzstd takes about two thirds
 * of the time of what there is in Go.
 *
 *   strata-zstd LEVEL IN OUT
 *       Descriptor 3 is memory that it shares with who started it: IN bytes for a piece, then OUT bytes for the frame that
 *       is made of it. Standard input gives the length of each piece, four bytes in the machine's order, once it is there;
 *       standard output answers with the length of the frame, once that is. The end of standard input ends the program.
 *       An empty piece becomes an empty frame.
 *
 * What comes in is foreign. So all memory is taken first, and from then on the kernel lets the program do nothing but read,
 * write and end: by a filter of seccomp(2), not by its strict mode, which the kernel refuses where there is a filter already,
 * thus in containers.
 */
#define _GNU_SOURCE
#define ZSTD_STATIC_LINKING_ONLY
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <zstd.h>

enum { MEMORY = 3, LEAST_LOG = 10, MOST_LOG = 27 };

static int fail(const char *what, const char *why)
{
	fprintf(stderr, "strata-zstd: %s: %s\n", what, why);
	return 125;
}

/*
 * Gives up all calls to the kernel but three. Where a processor has more than one numbering of them, these are no more than a
 * umask in the other one. A kernel without seccomp is no reason to do nothing.
 */
static void confine(void)
{
	struct sock_filter only[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_read, 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = { sizeof only / sizeof *only, only };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}

/* Ends as a process that may do nothing else: exit_group, which the C library takes, is forbidden. */
static void end(int code)
{
	syscall(SYS_exit, code);
	__builtin_unreachable();
}

/* Reads or writes a length; 0 is the end. */
static int transfer(ssize_t (*by)(int, void *, size_t), int fd, uint32_t *n)
{
	size_t done = 0;

	while (done < sizeof *n) {
		ssize_t got = by(fd, (char *)n + done, sizeof *n - done);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return 0;
		done += got;
	}
	return 1;
}

static ssize_t write_from(int fd, void *p, size_t n) { return write(fd, p, n); }

/* Gives what compresses pieces of up to in bytes at the level, with a window as large as a piece, and all its memory. */
static ZSTD_CCtx *compressor(int level, size_t in)
{
	ZSTD_CCtx *c;
	size_t size = ZSTD_estimateCCtxSize(level);
	void *memory = malloc(size);
	int log = LEAST_LOG;

	while (log < MOST_LOG && (size_t)1 << log < in)
		log++;
	if (memory == NULL || (c = ZSTD_initStaticCCtx(memory, size)) == NULL)
		return NULL;
	if (ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, level)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, log)))
		return NULL;
	return c;
}

int main(int argc, char **argv)
{
	ZSTD_CCtx *c;
	char *memory;
	size_t in, out;
	uint32_t n;

	if (argc != 4)
		return fail("usage", "strata-zstd LEVEL IN OUT");
	in = strtoul(argv[2], NULL, 10);
	out = strtoul(argv[3], NULL, 10);
	if (in == 0 || in > (size_t)1 << MOST_LOG || out < ZSTD_compressBound(in) || out > UINT32_MAX)
		return fail("sizes", "want IN of at most 128 MiB, and in OUT room for what cannot be compressed");
	memory = mmap(NULL, in + out, PROT_READ | PROT_WRITE, MAP_SHARED, MEMORY, 0);
	if (memory == MAP_FAILED)
		return fail("shared memory", strerror(errno));
	c = compressor(atoi(argv[1]), in);
	if (c == NULL)
		return fail("level", argv[1]);
	confine();
	while (transfer(read, STDIN_FILENO, &n)) {
		size_t size;

		if (n > in)
			end(2);
		size = ZSTD_compress2(c, memory + in, out, memory, n);
		if (ZSTD_isError(size))
			end(1);
		n = size;
		if (!transfer(write_from, STDOUT_FILENO, &n))
			end(0);
	}
	end(0);
}
