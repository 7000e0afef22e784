package runtime

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/atomicfile"
	"strata/internal/errdef"
)

// Libseccomp takes some 14 ms to compile docker's list of system calls, and runc lets it do so in each container and each
// exec. So the compiled filter is kept, in a file of [Runtime.Filters]: "strata-step filter" makes it, together with the calls
// of libseccomp that led to it. The init of a container, in strata-runc and in strata-step, compares each of its own calls
// with them and takes the program only if all are the same (cmd/strata-step/filter.c). So a file for another list does no
// harm; what a file says about its own list must be true. Therefore only files are taken that nobody else can have
// written, and init reads a sealed copy in memory.
//
// Where anything of this does not work, a container compiles its filter as ever.

const (
	// maxFilter bounds a file: docker's list makes one of 70 KB.
	maxFilter = 4 << 20
	// maxFilters is how many files are kept before they are all thrown away: one for each list that is in use.
	maxFilters = 32
	// filterTime bounds the compiling.
	filterTime = 10 * time.Second
)

// Helper gives strata-step, which belongs to strata's own runtime and stands beside it. errdef.ErrUnavailable: this is
// another runtime, or the helper is not there.
func (r *Runtime) Helper() (string, os.FileInfo, error) {
	path := filepath.Join(filepath.Dir(r.Path), "strata-step")
	st, err := os.Stat(path)
	if filepath.Base(r.Path) != "strata-runc" || err != nil || !st.Mode().IsRegular() || st.Mode()&0o111 == 0 {
		return "", nil, fmt.Errorf("no strata-step for runtime %s: %w", r.Path, errdef.ErrUnavailable)
	}
	return path, st, nil
}

// filter gives the compiled filter of a bundle's list of system calls as a sealed file in memory, nil where there is none.
func (r *Runtime) filter(ctx context.Context, list []byte) *os.File {
	if len(list) == 0 || r.Filters == "" {
		return nil
	}
	helper, st, err := r.Helper()
	if err != nil || private(r.Filters) != nil {
		return nil
	}
	file := filepath.Join(r.Filters, filterKey(st, list))
	data, err := readFilter(file)
	if err != nil {
		if data, err = compileFilter(ctx, helper, list); err != nil {
			return nil
		}
		_ = keepFilter(file, data) // else the next container compiles it again
	}
	f, err := sealed(data)
	if err != nil {
		return nil
	}
	return f
}

// filterKey names a list's file: the same list, compiled by the same program under the same kernel.
func filterKey(helper os.FileInfo, list []byte) string {
	var kernel unix.Utsname
	_ = unix.Uname(&kernel) // fails for a bad address only
	h := sha256.New()
	fmt.Fprintf(h, "%d %d %s\n", helper.Size(), helper.ModTime().UnixNano(), unix.ByteSliceToString(kernel.Release[:]))
	h.Write(list)
	return hex.EncodeToString(h.Sum(nil))
}

// private makes dir, if it is missing, and refuses one that is not ours alone.
func private(dir string) error {
	var st unix.Stat_t
	err := unix.Lstat(dir, &st)
	if errors.Is(err, unix.ENOENT) {
		if err = os.MkdirAll(dir, 0o700); err == nil {
			err = unix.Lstat(dir, &st)
		}
	}
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Mode&0o077 != 0 || int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s is no private directory of uid %d: %w", dir, os.Geteuid(), errdef.ErrDenied)
	}
	return nil
}

// readFilter reads a file that [keepFilter] wrote: a SHA-256 sum, then what it is the sum of.
func readFilter(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Mode&0o077 != 0 || int(st.Uid) != os.Geteuid() || st.Nlink != 1 ||
		st.Size <= sha256.Size || st.Size > maxFilter {
		return nil, fmt.Errorf("%s: %w", name, errdef.ErrDenied)
	}
	raw := make([]byte, st.Size)
	if _, err := io.ReadFull(f, raw); err != nil {
		return nil, err
	}
	sum, data := raw[:sha256.Size], raw[sha256.Size:]
	if sha256.Sum256(data) != [sha256.Size]byte(sum) {
		return nil, fmt.Errorf("%s: %w", name, errdef.ErrCorrupt)
	}
	return data, nil
}

// keepFilter makes a file of a compiled filter. Too many are a sign of lists that differ each time.
func keepFilter(name string, data []byte) error {
	old, err := filepath.Glob(filepath.Join(filepath.Dir(name), "*"))
	if err != nil {
		return err
	}
	if len(old) >= maxFilters {
		for _, o := range old {
			os.Remove(o)
		}
	}
	sum := sha256.Sum256(data)
	return atomicfile.Write(name, append(sum[:], data...), 0o600)
}

// compileFilter has the list compiled, by a process that goes near no container.
func compileFilter(ctx context.Context, helper string, list []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, filterTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, helper, "filter")
	detach(cmd)
	cmd.Stdin = bytes.NewReader(list)
	data, err := cmd.Output()
	if err == nil && (len(data) == 0 || len(data) > maxFilter-sha256.Size) {
		err = fmt.Errorf("compiled filter of %d bytes: %w", len(data), errdef.ErrLimit)
	}
	return data, err
}

// sealed makes a file in memory that nobody can change.
func sealed(data []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("filter", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "filter")
	if _, err = f.Write(data); err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// fileName names an open file of this process to others, "" for none.
func fileName(f *os.File) string {
	if f == nil {
		return ""
	}
	pid, err := os.Readlink("/proc/self") // our pid as /proc has it
	if err != nil {
		return ""
	}
	return fmt.Sprintf("/proc/%s/fd/%d", pid, f.Fd())
}
