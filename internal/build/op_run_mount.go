package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/graph"
	"strata/internal/rootfs"
)

// define is what of a mount counts for the key: neither what a cache holds nor what a secret is. What From and Files come
// to are inputs of the step.
func (m *Mount) define() (graph.Line, error) {
	said := *m
	said.From, said.Files = nil, nil
	raw, err := json.Marshal(said)
	return graph.Line{Name: "the mount at " + said.Target, Value: string(raw)}, err
}

// mounts make ready, for one step, what its --mount flags ask for.
type mounts struct {
	o      *runOp
	t      *mounted
	inputs []state // of each mount: what From or Files comes to

	specs []specs.Mount
	stubs []rootfs.Stub
	env   []string
	ends  []func()
}

// all makes everything ready; the caller calls close in any case, before the tree is unmounted.
func (s *mounts) all(ctx context.Context) error {
	for i := range s.o.run.Mounts {
		m := &s.o.run.Mounts[i]
		if err := s.one(ctx, i, m); err != nil {
			return fmt.Errorf("--mount=type=%s,target=%s: %w", m.Type, m.Target, err)
		}
	}
	return nil
}

func (s *mounts) close() {
	for _, end := range slices.Backward(s.ends) {
		end()
	}
}

func (s *mounts) one(ctx context.Context, i int, m *Mount) error {
	switch m.Type {
	case MountBind:
		return s.bind(i, m)
	case MountCache:
		return s.cache(ctx, i, m)
	case MountTmpfs:
		options := []string{"nosuid", "nodev", "mode=1777"}
		if m.Size > 0 {
			options = append(options, "size="+strconv.FormatInt(m.Size, 10))
		}
		if m.ReadOnly {
			options = append(options, "ro")
		}
		s.stubs = append(s.stubs, rootfs.Stub{Path: m.Target, Dir: true})
		s.specs = append(s.specs, specs.Mount{Destination: m.Target, Type: "tmpfs", Source: "tmpfs", Options: options})
		return nil
	case MountSecret:
		return s.secret(i, m)
	case MountSSH:
		return s.agent(i, m)
	}
	return s.file(i, m, []byte(m.Script), 0o755)
}

// show binds source, a path of ours, to the mount's target.
func (s *mounts) show(m *Mount, source string, dir bool) {
	options := []string{"bind", "rprivate"}
	if m.ReadOnly {
		options = append(options, "ro")
	}
	s.stubs = append(s.stubs, rootfs.Stub{Path: m.Target, Dir: dir})
	s.specs = append(s.specs, specs.Mount{Destination: m.Target, Type: "bind", Source: source, Options: options})
}

// bind shows a path of another tree. What is written to it goes nowhere.
func (s *mounts) bind(i int, m *Mount) error {
	target, err := s.place(i, "tree")
	if err != nil {
		return err
	}
	where := rootfs.Mount{Target: target, Volatile: true}
	if !m.ReadOnly {
		if where.Writable, err = s.place(i, "rw"); err != nil {
			return err
		}
	}
	if err := s.t.stacks.Mount(s.inputs[i].Layers, where); err != nil {
		return err
	}
	root, err := rootfs.OpenRoot(target)
	if err != nil {
		return err
	}
	defer root.Close()
	path, dir, err := locate(root, m.Source)
	if err != nil {
		return err
	}
	s.show(m, filepath.Join(target, path), dir)
	return nil
}

// locate finds a source in a tree, as a process chrooted there would.
func locate(root *rootfs.Root, source string) (path string, dir bool, err error) {
	path, err = root.Resolve(source)
	if err != nil {
		return "", false, fmt.Errorf("source %q: %w", source, err)
	}
	st, err := root.Lstat(path)
	return path, st.Mode&unix.S_IFMT == unix.S_IFDIR, err
}

// place makes a directory of the step's for its ith mount.
func (s *mounts) place(i int, name string) (string, error) {
	dir := filepath.Join(s.t.dir, fmt.Sprintf("mount%d-%s", i, name))
	return dir, os.MkdirAll(dir, 0o755)
}

// cache shows a tree that outlives the build. A new one is a copy of From's Source, or empty.
func (s *mounts) cache(ctx context.Context, i int, m *Mount) error {
	key, err := cacheKey(m.ID, s.inputs[i].Layers, m.Source, m.cacheOwner())
	if err != nil {
		return err
	}
	tree, err := s.o.x.deps.Caches.take(ctx, key, m.ID, m.Sharing)
	if err != nil {
		return err
	}
	s.ends = append(s.ends, func() { tree.lock.Unlock() })
	if tree.fresh {
		if err := s.seed(ctx, i, m, tree.path); err != nil {
			return errors.Join(err, os.RemoveAll(tree.path))
		}
	}
	s.show(m, tree.path, true)
	return nil
}

func (s *mounts) seed(ctx context.Context, i int, m *Mount, dir string) error {
	if m.From != nil || m.Files != nil {
		if err := s.fill(ctx, i, m, dir); err != nil {
			return err
		}
	}
	return m.cacheOwner().apply(dir, s.o.x.chown)
}

func (m *Mount) cacheOwner() CacheOwner { return CacheOwner{m.UID, m.GID, m.Mode} }

// fill copies From's Source into the new tree.
func (s *mounts) fill(ctx context.Context, i int, m *Mount, dir string) error {
	to, err := rootfs.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer to.Close()
	from := &mounted{dir: filepath.Join(s.t.dir, fmt.Sprintf("mount%d-seed", i)), stacks: s.t.stacks}
	return from.readOnly(s.inputs[i].Layers, func(root *rootfs.Root) error {
		selected, err := selectOne(root, m.Source)
		if err != nil {
			return fmt.Errorf("source %q: %w", m.Source, err)
		}
		c := &copier{ctx: ctx.Err, from: root, to: to, dest: "/", keepOwner: true, capabilities: true, anyOwner: s.o.x.deps.SingleID}
		return c.selection(&selected)
	})
}

// memory is a tmpfs of the step's own: what is in it never reaches a disk. Where nothing can be mounted it is a directory
// for running state, which is in memory on most machines.
func (s *mounts) memory(i int) (string, error) {
	dir, err := s.place(i, "memory")
	if err != nil {
		return "", err
	}
	err = unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size=16m")
	if !errors.Is(err, unix.EPERM) {
		return dir, err
	}
	if dir, err = os.MkdirTemp(s.o.x.deps.RunDir, "memory-"); err != nil {
		return "", err
	}
	s.ends = append(s.ends, func() { os.RemoveAll(dir) })
	return dir, nil
}

// file shows a file with these bytes.
func (s *mounts) file(i int, m *Mount, data []byte, mode uint32) error {
	dir, err := s.memory(i)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return err
	}
	if err := s.o.x.chown(path, or(m.UID, 0), or(m.GID, 0)); err != nil {
		return err
	}
	if err := unix.Chmod(path, or(m.Mode, mode)); err != nil {
		return err
	}
	s.show(m, path, false)
	return nil
}

func or(n *uint32, other uint32) uint32 {
	if n == nil {
		return other
	}
	return *n
}

// chown gives away what strata made; with a single id there is nobody to give it to.
func (x *executor) chown(path string, uid, gid uint32) error {
	err := unix.Lchown(path, int(uid), int(gid))
	if err != nil && x.deps.SingleID {
		return nil
	}
	return err
}

// secret gives the process a secret as a file, as a variable, or as both.
func (s *mounts) secret(i int, m *Mount) error {
	value, ok := s.o.x.deps.Secrets[m.ID]
	if !ok {
		if m.Required {
			return errdef.WithHint(fmt.Errorf("secret %q: %w", m.ID, errdef.ErrNotFound), "give it with: --secret id="+m.ID+",src=FILE")
		}
		return nil
	}
	if m.Env != "" {
		s.env = append(s.env, m.Env+"="+string(value))
	}
	if m.Target == "" {
		return nil
	}
	return s.file(i, m, value, 0o400)
}

// agent gives the process a socket that leads to the user's ssh agent.
func (s *mounts) agent(i int, m *Mount) error {
	path, ok := s.o.x.deps.Agents[m.ID]
	if !ok {
		if m.Required {
			return errdef.WithHint(fmt.Errorf("ssh agent %q: %w", m.ID, errdef.ErrNotFound), "give it with: --ssh "+m.ID)
		}
		return nil
	}
	dir, err := s.memory(i)
	if err != nil {
		return err
	}
	socket := filepath.Join(dir, "agent")
	relay, err := relayAgent(socket, path)
	if err != nil {
		return err
	}
	s.ends = append(s.ends, relay.close)
	if err := s.o.x.chown(socket, or(m.UID, 0), or(m.GID, 0)); err != nil {
		return err
	}
	if err := unix.Chmod(socket, or(m.Mode, 0o600)); err != nil {
		return err
	}
	said := *m
	said.ReadOnly = false // connecting writes
	s.show(&said, socket, false)
	if !slices.ContainsFunc(s.env, func(e string) bool { return strings.HasPrefix(e, "SSH_AUTH_SOCK=") }) {
		s.env = append(s.env, "SSH_AUTH_SOCK="+m.Target)
	}
	return nil
}

// agentRelay carries connections to a socket of ours over to the agent's.
type agentRelay struct {
	listener net.Listener
	conns    sync.WaitGroup
	mu       sync.Mutex
	open     map[net.Conn]bool
}

// relayAgent listens at socket. Its directory is opened first: the whole path may be too long for a socket's name.
func relayAgent(socket, agent string) (*agentRelay, error) {
	dir, err := os.Open(filepath.Dir(socket))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	l, err := net.Listen("unix", fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(socket)))
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // it goes with its file system
	r := &agentRelay{listener: l, open: map[net.Conn]bool{}}
	go r.serve(agent)
	return r, nil
}

func (r *agentRelay) serve(agent string) {
	for {
		in, err := r.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("unix", agent)
		if err != nil {
			in.Close()
			continue
		}
		if !r.add(in, out) {
			return
		}
		for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
			r.conns.Go(func() {
				_, _ = io.Copy(way[0], way[1]) // ends with either connection
				in.Close()
				out.Close()
			})
		}
	}
}

// add notes two connections, unless the relay has ended: then they are closed.
func (r *agentRelay) add(in, out net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open == nil {
		in.Close()
		out.Close()
		return false
	}
	r.open[in], r.open[out] = true, true
	return true
}

func (r *agentRelay) close() {
	r.listener.Close()
	r.mu.Lock()
	for c := range r.open {
		c.Close()
	}
	r.open = nil
	r.mu.Unlock()
	r.conns.Wait()
}
