/*
 * strata-enter joins a user namespace and its mount namespace, and executes a program there. A program written in Go
 * cannot: the kernel lets only a process with a single thread change its user namespace.
 *
 *   strata-enter PIDFD CWDFD CWD PROGRAM ARGV0 [ARG...]
 *       joins the namespaces of the process that PIDFD refers to, goes to the directory CWD (CWDFD is the same directory
 *       as it was opened outside), executes PROGRAM with the given arguments.
 *   strata-enter --hold RECORD
 *       waits for SIGTERM, or for the file RECORD to be gone, without which nobody would find this process: the pause
 *       process, at the price of a few pages.
 *
 * Which process PIDFD refers to, and that it is the right one, has been settled by the caller.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail(const char *what, const char *name)
{
	fprintf(stderr, "strata-enter: %s %s: %s\n", what, name, strerror(errno));
	return 125;
}

/* Reads a descriptor number and marks the descriptor close-on-exec. */
static int descriptor(const char *text)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (*text == '\0' || *end != '\0' || n < 3 || n > 1 << 20) {
		errno = EINVAL;
		return -1;
	}
	return fcntl(n, F_SETFD, FD_CLOEXEC) == 0 ? (int)n : -1;
}

/*
 * Goes to the directory by its name, so that the kernel can tell the name inside as well. If the name leads elsewhere, or
 * nowhere, because the directory lies on a mount that was made privately outside, the descriptor still leads there.
 */
static int go_to(int fd, const char *name)
{
	struct stat want, got;

	if (fstat(fd, &want) != 0)
		return -1;
	if (chdir(name) == 0 && stat(".", &got) == 0 && want.st_dev == got.st_dev && want.st_ino == got.st_ino)
		return 0;
	return fchdir(fd);
}

int main(int argc, char **argv)
{
	int process, cwd;

	if (argc == 3 && strcmp(argv[1], "--hold") == 0) {
		/* What the end of a session sends is not for it. */
		signal(SIGHUP, SIG_IGN);
		signal(SIGINT, SIG_IGN);
		signal(SIGQUIT, SIG_IGN);
		do
			sleep(30);
		while (access(argv[2], F_OK) == 0 || errno != ENOENT);
		return 0;
	}
	if (argc < 6) {
		fprintf(stderr, "usage: strata-enter PIDFD CWDFD CWD PROGRAM ARGV0 [ARG...]\n");
		return 125;
	}
	if ((process = descriptor(argv[1])) < 0 || (cwd = descriptor(argv[2])) < 0)
		return fail("file descriptors", argv[1]);
	if (setns(process, CLONE_NEWUSER | CLONE_NEWNS) != 0)
		return fail("join", "the user and mount namespace");
	/* The user's id is 0 inside already; this sets the saved and file system ids, and fails where 0 is not mapped. */
	if (setresgid(0, 0, 0) != 0 || setresuid(0, 0, 0) != 0)
		return fail("become", "uid 0");
	if (go_to(cwd, argv[3]) != 0)
		return fail("go to", argv[3]);
	execv(argv[4], argv + 5);
	return fail("execute", argv[4]);
}
