package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/errdef"
	"strata/internal/mount"
	"strata/internal/network"
)

// joins is the beginning of a network mode that names another container, whose network is used.
const joins = "container:"

// OwnNetwork reports whether the container has a network namespace of its own that networks can be joined to it by.
func (h HostConfig) OwnNetwork() bool {
	return h.Network != network.Host && h.Network != network.None && !strings.HasPrefix(h.Network, joins)
}

// planNetworks completes and checks what the container asks of networks.
func (s *Store) planNetworks(rec *Record) error {
	h := &rec.Host
	if h.Network == "" || h.Network == "default" {
		h.Network = network.Bridge
	}
	if ref, ok := strings.CutPrefix(h.Network, joins); ok {
		return s.planJoin(rec, ref)
	}
	if !h.OwnNetwork() {
		if len(h.Networks) > 0 {
			return errdef.WithHint(&wordedError{"conflicting options: network mode " + h.Network + " and other networks", errdef.ErrInvalid},
				"leave out --network "+h.Network+", or the other networks")
		}
		return nil
	}
	if len(h.Networks) == 0 {
		h.Networks = []network.Attachment{{Network: h.Network}}
	}
	seen := map[string]bool{}
	for i := range h.Networks {
		a := &h.Networks[i]
		n, err := s.opt.Networks.Lookup(a.Network)
		if err != nil {
			return err
		}
		if err := checkAttachment(n, *a); err != nil {
			return err
		}
		a.Network = n.Name // an id may have been given
		if seen[n.Name] {
			return &wordedError{fmt.Sprintf("conflicting options: cannot attach to network %s more than once", n.Name), errdef.ErrInvalid}
		}
		seen[n.Name] = true
	}
	h.Network = h.Networks[0].Network
	return nil
}

// planJoin finds the container whose network is to be used. What that one has cannot be chosen again.
func (s *Store) planJoin(rec *Record, ref string) error {
	id, err := s.resolve(strings.TrimPrefix(ref, "/"))
	if err != nil {
		return err
	}
	h := &rec.Host
	h.Network = joins + id
	for what, given := range map[string]bool{
		"hostname": rec.Config.Hostname != "", "port publishing": len(h.Publish) > 0 || h.PublishAll, "port exposing": false,
		"dns": len(h.DNS) > 0, "custom host-to-IP mapping": len(h.ExtraHosts) > 0, "mac-address": rec.Config.MacAddress != "",
	} {
		if given {
			return &wordedError{"conflicting options: " + what + " and the container type network mode", errdef.ErrInvalid}
		}
	}
	if len(h.Networks) > 0 {
		return &wordedError{"conflicting options: container type network mode and other networks", errdef.ErrInvalid}
	}
	return nil
}

func checkAttachment(n network.Network, a network.Attachment) error {
	switch {
	case n.Driver != network.DriverBridge:
		return &wordedError{fmt.Sprintf("conflicting options: network %s and other networks", n.Name), errdef.ErrInvalid}
	case n.Name != network.Bridge:
		return nil
	case len(a.Aliases) > 0:
		return &wordedError{"network-scoped alias is supported only for containers in user defined networks", errdef.ErrInvalid}
	case a.IPv4.IsValid() || a.IPv6.IsValid():
		return &wordedError{"user specified IP address is supported on user defined networks only", errdef.ErrInvalid}
	}
	return nil
}

// nets is how one run of a container is connected.
type nets struct {
	sandbox *network.Sandbox // nil where the network is this machine's
	users   *mount.Users     // nil where the user namespace is this machine's
	// from is the container whose network this is, if it is another's.
	from      *Record
	endpoints []network.Endpoint
	host      bool // it is this machine's network, perhaps by way of another container
	resolve   bool // names are asked for at the container's supervisor
}

// open gives the container its network and makes its ports reachable.
func (v *supervision) open(ctx context.Context, atRest func()) error {
	if err := v.connect(ctx); err != nil {
		return err
	}
	return v.publish(ctx, atRest)
}

// connect gives the container its network, before it starts. What it makes stays until disconnect.
func (v *supervision) connect(ctx context.Context) error {
	if v.net.sandbox != nil || v.net.host {
		return nil // connected since an earlier start under this supervisor
	}
	// Who finds this directory without a supervisor clears away what belongs to it, addresses too.
	if err := os.MkdirAll(v.s.treeDir(v.rec.ID), 0o700); err != nil {
		return err
	}
	h := v.rec.Host
	var err error
	switch {
	case h.Network == network.Host:
		v.net.host = true
	case strings.HasPrefix(h.Network, joins):
		err = v.joinOther(ctx, strings.TrimPrefix(h.Network, joins))
	default:
		if v.net.sandbox, err = v.newSandbox(ctx); err == nil && h.Network != network.None {
			err = v.joinAll(ctx)
		}
	}
	return err
}

// newSandbox makes the container's network namespace. One of a container in a user namespace belongs to that.
func (v *supervision) newSandbox(ctx context.Context) (*network.Sandbox, error) {
	if v.rec.Host.Access.IDs == nil {
		return network.NewSandbox()
	}
	users, ns, err := v.s.openUsers(ctx, v.rec)
	if err != nil {
		return nil, err
	}
	v.net.users = users
	return network.SandboxOf(ns)
}

func (v *supervision) joinAll(ctx context.Context) error {
	if err := v.s.clearNetworks(ctx, v.rec.ID); err != nil {
		return err
	}
	for i, a := range v.rec.Host.Networks {
		if i == 0 && a.MAC == "" {
			a.MAC = v.rec.Config.MacAddress
		}
		if err := v.joinOne(ctx, a, i); err != nil {
			return err
		}
	}
	v.s.emitNetworks("connect", v.rec, v.net.endpoints)
	if named(v.net.endpoints) || len(usableServers(v.rec.Host)) == 0 {
		return v.resolve(ctx)
	}
	return nil
}

func (v *supervision) joinOne(ctx context.Context, a network.Attachment, index int) error {
	e, err := v.s.opt.Networks.Join(ctx, v.net.sandbox, v.rec.owner(), a, index)
	if err == nil {
		v.net.endpoints = append(v.net.endpoints, e)
	}
	return err
}

// named reports whether any of the networks knows names.
func named(endpoints []network.Endpoint) bool {
	return slices.ContainsFunc(endpoints, func(e network.Endpoint) bool { return e.Named })
}

// resolve answers the container's questions for names from now on.
func (v *supervision) resolve(ctx context.Context) error {
	v.resolver.mu.Lock()
	defer v.resolver.mu.Unlock()
	if v.resolver.stop != nil {
		return nil
	}
	stop, err := v.s.opt.Networks.Resolve(ctx, v.net.sandbox, v.rec.ID, network.ResolveOptions{
		Servers: v.rec.Host.DNS, Machine: MachineServers,
	})
	if err == nil {
		v.resolver.stop = stop
	}
	return err
}

// resolver is what answers the container's questions, if anything does.
type resolver struct {
	mu   sync.Mutex
	stop func()
}

func (r *resolver) running() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stop != nil
}

func (r *resolver) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stop != nil {
		r.stop()
		r.stop = nil
	}
}

func (rec Record) owner() network.Owner {
	return network.Owner{ID: rec.ID, Name: rec.Name, Hostname: rec.Config.Hostname}
}

// joinOther opens the network namespace of a running container.
func (v *supervision) joinOther(ctx context.Context, id string) error {
	other, err := v.s.Lookup(ctx, id)
	if err != nil {
		return err
	}
	if !other.State.Alive() {
		return errdef.WithHint(&wordedError{"cannot join network of a non running container: " + other.ID, errdef.ErrConflict}, "strata start "+other.Name)
	}
	v.net.from = &other
	if v.s.onHost(other) {
		v.net.host = true
		return nil
	}
	if v.rec.Host.Access.IDs != nil {
		if v.net.users, _, err = v.s.openUsers(ctx, v.rec); err != nil {
			return err
		}
	}
	v.net.sandbox, err = openSandbox(other.State)
	return err
}

// onHost reports whether a container has this machine's network, perhaps by way of another container.
func (s *Store) onHost(rec Record) bool {
	if id, ok := strings.CutPrefix(rec.Host.Network, joins); ok {
		other, err := s.get(id)
		return err == nil && other.Host.Network == network.Host
	}
	return rec.Host.Network == network.Host
}

// openSandbox opens the network namespace of a container's first process, and of no other that has its pid.
func openSandbox(st State) (*network.Sandbox, error) {
	ns, err := openNamespace(st, "net")
	if err != nil {
		return nil, err
	}
	return network.SandboxAt(ns), nil
}

// openNamespace opens a namespace of a container's first process, and of no other that has its pid.
func openNamespace(st State, kind string) (*os.File, error) {
	fd, err := openProcess(st)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", st.Pid, kind))
	if err != nil && hasEnded(fd, 100*time.Millisecond) { // it has left its namespaces
		return nil, fmt.Errorf("process %d of the container: %w", st.Pid, errdef.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("namespace of the container: %w", err)
	}
	// As long as the process is there the pid was its own when the file was opened.
	if err := unix.PidfdSendSignal(fd, 0, nil, 0); err != nil {
		ns.Close()
		return nil, fmt.Errorf("process %d of the container: %w", st.Pid, errdef.ErrNotFound)
	}
	return ns, nil
}

// leaveNetworks takes a container that has ended out of its networks, while nobody is just joining it to one, and gives what it left.
func (s *Store) leaveNetworks(ctx context.Context, id string) (left []network.Endpoint, err error) {
	leave := func() error {
		left, err = s.opt.Networks.Endpoints(id)
		err = errors.Join(err, s.opt.Networks.Release(id))
		return nil
	}
	if s.records.Locked(context.WithoutCancel(ctx), id, leave) != nil {
		_ = leave() // the disk takes nothing, not even the lock
	}
	return left, err
}

// disconnect gives up the container's network. Repeating it is no error.
func (v *supervision) disconnect(ctx context.Context) error {
	v.ports.Close()
	v.ports = nil
	v.resolver.close()
	var err error
	if len(v.net.endpoints) > 0 || v.rec.Host.OwnNetwork() {
		var left []network.Endpoint
		if left, err = v.s.leaveNetworks(ctx, v.rec.ID); err == nil {
			v.s.emitNetworks("disconnect", v.rec, left)
		}
	}
	v.net.sandbox.Close()
	v.net.users.Close()
	v.net = nets{}
	return err
}

// ClearNetworks takes out of the networks what killed supervisors left there.
func (s *Store) ClearNetworks(ctx context.Context) error { return s.clearNetworks(ctx, "") }

// Seated tells of those who are in a network whether one has a supervisor. Who has none is taken out by [Store.ClearNetworks].
func (s *Store) Seated(members []network.Endpoint) bool {
	return slices.ContainsFunc(members, func(e network.Endpoint) bool { return !validID(e.Owner.ID) || s.held(e.Owner.ID) })
}

// clearNetworks takes out of the networks those who have no supervisor: what was killed left them there.
func (s *Store) clearNetworks(ctx context.Context, except string) error {
	owners, err := s.opt.Networks.Owners()
	if err != nil {
		return err
	}
	for _, id := range owners {
		if id == except || !validID(id) || s.held(id) {
			continue
		}
		if rec, err := s.get(id); err == nil {
			if _, err := s.reconcile(ctx, rec); err != nil && !errors.Is(err, errdef.ErrNotFound) {
				return err
			}
		}
		if err := s.releaseDead(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// releaseDead takes a container without a supervisor out of its networks, unless it gets one just now.
func (s *Store) releaseDead(ctx context.Context, id string) error {
	l, err := s.tryLock(ctx, id)
	if errors.Is(err, errdef.ErrConflict) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(s.opt.Networks.Release(id), l.release(verdict{}))
}
