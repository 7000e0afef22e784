package userns

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// Namespaces are a user namespace and a network namespace that belongs to it, for a container of root's. They live as long as they
// are open somewhere or a process is in them.
type Namespaces struct{ User, Net *os.File }

// New makes namespaces in which the ids are those of m. Only a process with a single thread can enter a user namespace that it
// makes, so a copy of this program is started in them, which is ended as soon as both are open here.
func New(ctx context.Context, m Map) (*Namespaces, error) {
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args[0], cmd.Dir, cmd.Env = PauseName, "/", []string{}
	input, err := cmd.StdinPipe() // it ends with us, or when we say so
	if err != nil {
		return nil, err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET, Setsid: true,
		UidMappings: procMap(m.UIDs), GidMappings: procMap(m.GIDs), GidMappingsEnableSetgroups: true,
	}
	if err := cmd.Start(); err != nil {
		return nil, refused(fmt.Errorf("make a user namespace: %w", err))
	}
	ns, err := openNamespaces(cmd.Process.Pid)
	input.Close()
	_ = cmd.Process.Kill() // nothing waits for what it would do
	_ = cmd.Wait()         // it was killed
	return ns, err
}

func procMap(ranges []Range) []syscall.SysProcIDMap {
	list := make([]syscall.SysProcIDMap, len(ranges))
	for i, r := range ranges {
		list[i] = syscall.SysProcIDMap{ContainerID: int(r.Inside), HostID: int(r.Outside), Size: int(r.Count)}
	}
	return list
}

func openNamespaces(pid int) (*Namespaces, error) {
	user, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", pid))
	if err != nil {
		return nil, fmt.Errorf("user namespace: %w", err)
	}
	net, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		user.Close()
		return nil, fmt.Errorf("network namespace of a user namespace: %w", err)
	}
	return &Namespaces{user, net}, nil
}

// Close lets the namespaces go. Nil ones are none.
func (n *Namespaces) Close() {
	if n != nil {
		n.User.Close()
		n.Net.Close()
	}
}
