package engine

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"strata/internal/doctor"
	"strata/internal/errdef"
	"strata/internal/runtime"
	"strata/internal/userns"
)

// pickRuntime finds what runs containers here: the OCI runtime that was named or is installed, or where nothing can be mounted
// or no /proc be made, inside a container without privileges, the one that does with chroot.
func (e *Engine) pickRuntime() (*runtime.Runtime, error) {
	if e.opts.Runtime != "" {
		return runtime.Find(e.opts.Runtime)
	}
	switch {
	case userns.MustEnter():
		return nil, confined(e.opts.Refused)
	case !e.stacks.Mounts():
		e.notice("nothing can be mounted here: containers are held by chroot alone, share processes and network with what is around them, and have no /proc; " +
			"directories of the host cannot be shown in them")
	case maskedProc("/proc/self/mountinfo"):
		e.notice("no /proc can be mounted here: containers are held by chroot alone and share processes and network with what is around them")
	default:
		return runtime.Find("")
	}
	return runtime.FindChroot()
}

// confined is why a plain user who gets no user namespace can start nothing, with what would allow it.
func confined(refused error) error {
	err := fmt.Errorf("uid %d can start no container here: %w", os.Geteuid(), errdef.ErrDenied)
	if refused != nil {
		err = fmt.Errorf("uid %d can start no container here: %w", os.Geteuid(), refused)
	}
	if !doctor.InContainer("/") {
		return err
	}
	return errdef.WithHint(err, "start the surrounding container with --user 0 (Kubernetes: securityContext.runAsUser: 0), which allows chroot; "+
		"or with --security-opt seccomp=unconfined (seccompProfile: Unconfined), which allows user namespaces. COPY, pull and push work as it is")
}

// maskedProc reports whether this process is in a user namespace in which no /proc can be mounted: the kernel demands one
// that is seen whole, and a container's has places hidden by mounts.
func maskedProc(mountinfo string) bool {
	if !userns.Namespaced() {
		return false
	}
	raw, err := os.ReadFile(mountinfo)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		if len(f) > 4 && strings.HasPrefix(f[4], "/proc/") && !strings.HasPrefix(f[4], "/proc/sys/fs/binfmt_misc") {
			return true
		}
	}
	return false
}

// notice says something about this machine once: not again as long as the run directory stands.
func (e *Engine) notice(text string) {
	sum := sha256.Sum256([]byte(e.opts.Root + text))
	f, err := os.OpenFile(filepath.Join(e.opts.Run, fmt.Sprintf("said-%x", sum[:6])), os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return // it was said
	}
	f.Close()
	if e.opts.Notice != nil {
		e.opts.Notice(text)
	}
}

// noticeDriver tells that layers are not shown by the kernel's overlay.
func (e *Engine) noticeDriver(driver string, _ error) {
	e.notice("overlay does not work here (strata doctor says why): layers are shown by the driver " + driver)
}
