/*
 * Lets user-mode Linux 6.1 run on processors with AMX.
 *
 * The user-mode kernel saves and restores its processes' floating-point
 * registers with ptrace(PTRACE_GETREGSET / PTRACE_SETREGSET, NT_X86_XSTATE)
 * and a buffer of 2696 bytes, the state up to PKRU. The host accepts a SET
 * only of the whole state, which AMX makes 11008 bytes long, and answers
 * EFAULT otherwise: PID 1 of the guest dies before its first instruction.
 *
 * This file replaces ptrace(3) by LD_PRELOAD: it passes a buffer of the host's
 * own size and copies the caller's part of it. State past the caller's buffer
 * is restored as "initial", which is what a process that never asked for AMX
 * has. Format: Intel SDM volume 1, section 13.4 (standard form of XSAVE).
 *
 * No header is included, so that a compiler without libc6-dev can build it.
 */

struct iovec { void *base; unsigned long len; };

extern long syscall(long number, ...);
extern int *__errno_location(void);

#define SYS_PTRACE 101
#define PTRACE_PEEKUSR 3
#define PTRACE_GETREGSET 0x4204
#define PTRACE_SETREGSET 0x4205
#define NT_X86_XSTATE 0x202
#define XSTATE_BV_OFFSET 512
#define FEATURES_UP_TO_PKRU 0x3ffUL

/* The user-mode kernel is one thread: one buffer is enough. */
static unsigned char whole[1 << 16] __attribute__((aligned(64)));
static unsigned long whole_len;

static void copy(unsigned char *to, const unsigned char *from, unsigned long n)
{
	for (unsigned long i = 0; i < n; i++)
		((volatile unsigned char *)to)[i] = from[i];
}

static long read_whole(long pid)
{
	struct iovec v = { whole, sizeof whole };
	long ret = syscall(SYS_PTRACE, PTRACE_GETREGSET, pid, NT_X86_XSTATE, &v);

	if (ret >= 0)
		whole_len = v.len;
	return ret;
}

static long get_xstate(long pid, struct iovec *want)
{
	long ret = read_whole(pid);

	if (ret < 0)
		return ret;
	if (want->len > whole_len)
		want->len = whole_len;
	copy(want->base, whole, want->len);
	return ret;
}

static long set_xstate(long pid, struct iovec *have)
{
	struct iovec v = { whole, 0 };
	unsigned long n = have->len;

	if (whole_len == 0 && read_whole(pid) < 0)
		return -1;
	if (n > whole_len)
		n = whole_len;
	copy(whole, have->base, n);
	if (n >= XSTATE_BV_OFFSET + sizeof(unsigned long))
		*(unsigned long *)(whole + XSTATE_BV_OFFSET) &= FEATURES_UP_TO_PKRU;
	v.len = whole_len;
	return syscall(SYS_PTRACE, PTRACE_SETREGSET, pid, NT_X86_XSTATE, &v);
}

long ptrace(long request, long pid, long addr, long data)
{
	long word = 0, ret;

	if (addr == NT_X86_XSTATE && request == PTRACE_GETREGSET)
		return get_xstate(pid, (struct iovec *)data);
	if (addr == NT_X86_XSTATE && request == PTRACE_SETREGSET)
		return set_xstate(pid, (struct iovec *)data);
	if (request < 1 || request > PTRACE_PEEKUSR)
		return syscall(SYS_PTRACE, request, pid, addr, data);
	/* ptrace(2), "C library/kernel differences": PEEK returns the word. */
	ret = syscall(SYS_PTRACE, request, pid, addr, &word);
	if (ret < 0)
		return ret;
	*__errno_location() = 0;
	return word;
}
