//go:build cgo && seccomp

// The linker puts these functions between libcontainer and libseccomp (-wrap): see filter.go, and the Makefile for
// strata-runc. Every call that shapes a filter is an entry. While the entries are those of a filter that was compiled before,
// rules are left out, and its program is given in the end. As soon as anything differs, what was left out is done, and all
// goes on as without this file.

#ifndef _GNU_SOURCE
#define _GNU_SOURCE // file seals
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <seccomp.h>

#include "filter.h"

enum { INIT = 1, ARCH, ATTR, RULE, OTHER };

// entry has no padding, so that entries can be compared as bytes.
struct entry {
	uint32_t op, a, b, n;
	struct scmp_arg_cmp args[6];
};

static struct {
	const struct entry *entries;
	size_t count, at; // at: how many have been met
	const uint8_t *program;
	size_t size;
	scmp_filter_ctx ctx;
	bool on;
} known;

static struct {
	struct entry *entries;
	size_t count, room;
	int fd;
	bool on;
} made;

scmp_filter_ctx __real_seccomp_init(uint32_t action);
int __real_seccomp_reset(scmp_filter_ctx ctx, uint32_t action);
int __real_seccomp_arch_add(scmp_filter_ctx ctx, uint32_t arch);
int __real_seccomp_arch_remove(scmp_filter_ctx ctx, uint32_t arch);
int __real_seccomp_attr_set(scmp_filter_ctx ctx, enum scmp_filter_attr attr, uint32_t value);
int __real_seccomp_rule_add_array(scmp_filter_ctx ctx, uint32_t action, int nr, unsigned int n, const struct scmp_arg_cmp *args);
int __real_seccomp_rule_add_exact_array(scmp_filter_ctx ctx, uint32_t action, int nr, unsigned int n, const struct scmp_arg_cmp *args);
int __real_seccomp_syscall_priority(scmp_filter_ctx ctx, int nr, uint8_t priority);
int __real_seccomp_merge(scmp_filter_ctx to, scmp_filter_ctx from);
int __real_seccomp_load(scmp_filter_ctx ctx);
int __real_seccomp_export_pfc(scmp_filter_ctx ctx, int fd);
int __real_seccomp_export_bpf(scmp_filter_ctx ctx, int fd);
__attribute__((weak)) int __real_seccomp_export_bpf_mem(scmp_filter_ctx ctx, void *buf, size_t *len); // libseccomp 2.6

// follow takes the known filter from the file that filter_record wrote. If that is not good nothing changes.
static void follow(int fd)
{
	const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
	int has = fcntl(fd, F_GET_SEALS);
	struct stat st;
	uint64_t count;
	// Made by this user, and not to be changed any more. Only a memory file can have these seals.
	if (has < 0 || (has & seals) != seals || fstat(fd, &st) != 0 || st.st_uid != geteuid() || st.st_size < (off_t)sizeof count)
		return;
	const uint8_t *p = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		return;
	size_t room = st.st_size - sizeof count;
	memcpy(&count, p, sizeof count);
	if (count == 0 || count >= room / sizeof(struct entry))
		return;
	known.entries = (const struct entry *)(p + sizeof count);
	known.count = count;
	known.program = p + sizeof count + count * sizeof(struct entry);
	known.size = room - count * sizeof(struct entry);
	known.on = true;
}

// start is for a container's init: its program's name is that of the file, and its first argument is "init". This must come
// before libcontainer's own constructor, which has no priority: after that one the name would be looked up in the container.
__attribute__((constructor(101))) static void start(void)
{
	char args[256];
	int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	ssize_t n = read(fd, args, sizeof args - 1);
	close(fd);
	if (n <= 0)
		return;
	args[n] = '\0';
	size_t name = strlen(args);
	if (strncmp(args, "/proc/", 6) != 0 || name + 1 >= (size_t)n || strcmp(args + name + 1, "init") != 0)
		return;
	fd = open(args, O_RDONLY | O_NONBLOCK | O_CLOEXEC); // whatever it is, opening it does not wait
	if (fd < 0)
		return;
	follow(fd);
	close(fd);
}

void filter_record(int fd)
{
	made.fd = fd;
	made.on = true;
}

static void record(const struct entry *e)
{
	if (made.count == made.room) {
		size_t room = made.room ? 2 * made.room : 512;
		void *p = realloc(made.entries, room * sizeof *e);
		if (p == NULL) {
			made.on = false;
			return;
		}
		made.entries = p;
		made.room = room;
	}
	made.entries[made.count++] = *e;
}

// settle does what was left out.
static int settle(void)
{
	if (!known.on)
		return 0;
	known.on = false;
	for (size_t i = 0; i < known.at; i++) {
		const struct entry *e = &known.entries[i];
		if (e->op != RULE)
			continue;
		int rc = __real_seccomp_rule_add_array(known.ctx, e->a, (int)e->b, e->n, e->n ? e->args : NULL);
		if (rc != 0)
			return rc;
	}
	return 0;
}

// met notes an entry. 1: it is the next of the known filter; 0: it is not, and nothing is left out any more; else an error.
static int met(scmp_filter_ctx ctx, uint32_t op, uint32_t a, uint32_t b, unsigned int n, const struct scmp_arg_cmp *args)
{
	struct entry e = {.op = op, .a = a, .b = b, .n = n};
	if (n > 6)
		return -EINVAL;
	if (n > 0)
		memcpy(e.args, args, n * sizeof *args);
	if (made.on)
		record(&e);
	if (!known.on)
		return 0;
	if (op == INIT && known.at == 0)
		known.ctx = ctx;
	if (op != OTHER && ctx == known.ctx && known.at < known.count && memcmp(&known.entries[known.at], &e, sizeof e) == 0) {
		known.at++;
		return 1;
	}
	return settle();
}

static int put(int fd, const void *p, size_t n)
{
	for (const uint8_t *b = p; n > 0;) {
		ssize_t k = write(fd, b, n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return -EIO;
		b += k;
		n -= k;
	}
	return 0;
}

scmp_filter_ctx __wrap_seccomp_init(uint32_t action)
{
	scmp_filter_ctx ctx = __real_seccomp_init(action);
	if (ctx == NULL || met(ctx, INIT, action, 0, 0, NULL) >= 0)
		return ctx;
	seccomp_release(ctx);
	return NULL;
}

int __wrap_seccomp_arch_add(scmp_filter_ctx ctx, uint32_t arch)
{
	int rc = met(ctx, ARCH, arch, 0, 0, NULL);
	return rc < 0 ? rc : __real_seccomp_arch_add(ctx, arch);
}

int __wrap_seccomp_attr_set(scmp_filter_ctx ctx, enum scmp_filter_attr attr, uint32_t value)
{
	int rc = met(ctx, ATTR, attr, value, 0, NULL);
	return rc < 0 ? rc : __real_seccomp_attr_set(ctx, attr, value);
}

int __wrap_seccomp_rule_add_array(scmp_filter_ctx ctx, uint32_t action, int nr, unsigned int n, const struct scmp_arg_cmp *args)
{
	int rc = met(ctx, RULE, action, (uint32_t)nr, n, args);
	if (rc != 0)
		return rc < 0 ? rc : 0;
	return __real_seccomp_rule_add_array(ctx, action, nr, n, args);
}

int __wrap_seccomp_export_bpf(scmp_filter_ctx ctx, int fd)
{
	if (known.on && ctx == known.ctx && known.at == known.count)
		return put(fd, known.program, known.size);
	int rc = settle();
	if (rc == 0 && made.on) {
		uint64_t count = made.count;
		rc = put(made.fd, &count, sizeof count);
		if (rc == 0)
			rc = put(made.fd, made.entries, count * sizeof *made.entries);
		if (rc == 0)
			rc = __real_seccomp_export_bpf(ctx, made.fd);
		made.on = false;
	}
	return rc != 0 ? rc : __real_seccomp_export_bpf(ctx, fd);
}

// What libcontainer does not use, or not before the export, ends it all.

#define OTHERWISE(call)                                  \
	do {                                             \
		int rc = met(NULL, OTHER, 0, 0, 0, NULL); \
		return rc < 0 ? rc : (call);             \
	} while (0)

int __wrap_seccomp_reset(scmp_filter_ctx ctx, uint32_t action) { OTHERWISE(__real_seccomp_reset(ctx, action)); }
int __wrap_seccomp_arch_remove(scmp_filter_ctx ctx, uint32_t arch) { OTHERWISE(__real_seccomp_arch_remove(ctx, arch)); }
int __wrap_seccomp_syscall_priority(scmp_filter_ctx ctx, int nr, uint8_t p) { OTHERWISE(__real_seccomp_syscall_priority(ctx, nr, p)); }
int __wrap_seccomp_merge(scmp_filter_ctx to, scmp_filter_ctx from) { OTHERWISE(__real_seccomp_merge(to, from)); }
int __wrap_seccomp_load(scmp_filter_ctx ctx) { OTHERWISE(__real_seccomp_load(ctx)); }
int __wrap_seccomp_export_pfc(scmp_filter_ctx ctx, int fd) { OTHERWISE(__real_seccomp_export_pfc(ctx, fd)); }
int __wrap_seccomp_export_bpf_mem(scmp_filter_ctx ctx, void *buf, size_t *len) { OTHERWISE(__real_seccomp_export_bpf_mem(ctx, buf, len)); }

int __wrap_seccomp_rule_add_exact_array(scmp_filter_ctx ctx, uint32_t action, int nr, unsigned int n, const struct scmp_arg_cmp *args)
{
	OTHERWISE(__real_seccomp_rule_add_exact_array(ctx, action, nr, n, args));
}
