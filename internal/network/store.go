package network

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/atomicfile"
	"strata/internal/errdef"
	"strata/internal/record"
)

// Options opens a [Store].
type Options struct {
	// Dir holds the networks' records, for good.
	Dir string
	// Run holds what lives no longer than the machine is up: who is in which network.
	Run string
	// Default says that this is the machine's usual store: its bridge and its table have plain names. Those of other stores get
	// names of their own.
	Default bool
	// Userns says that we run in strata's own user namespace: bridges stand in a network namespace of it then.
	Userns bool
	// Helper is the path of strata-net, which leads out of a plain user's networks; "" where there is none, and pasta has to.
	Helper string
	// Pools gives what subnets of networks are taken from that name none; nil, or none, are docker's usual ones.
	Pools func() ([]AddressPool, error)
}

// Available says why containers cannot have networks of their own here, if so.
func (s *Store) Available() error {
	var st unix.Statfs_t
	if err := unix.Statfs("/proc/sys", &st); err == nil && st.Flags&unix.ST_RDONLY != 0 {
		return fmt.Errorf("/proc/sys is read-only, as in a container without privileges: %w", errdef.ErrDenied)
	}
	if s.opt.Userns {
		_, err := s.WayOut()
		return err
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	if data[0].Effective&(1<<unix.CAP_NET_ADMIN) == 0 || data[0].Effective&(1<<unix.CAP_SYS_ADMIN) == 0 {
		return fmt.Errorf("making networks takes CAP_NET_ADMIN and CAP_SYS_ADMIN: %w", errdef.ErrDenied)
	}
	return nil
}

// Store is the networks of one store of containers. Opening it touches nothing.
type Store struct{ opt Options }

// Open opens the networks at o.Dir.
func Open(o Options) *Store { return &Store{o} }

func (s *Store) records() (*record.Dir[Network], error) {
	return record.OpenDir[Network](s.opt.Dir, "network")
}

// List gives all networks, the three that are always there included, by name.
func (s *Store) List() ([]Network, error) {
	records, err := s.records()
	if err != nil {
		return nil, err
	}
	all, err := records.All()
	if err != nil {
		return nil, err
	}
	for _, name := range []string{Bridge, Host, None} {
		if n := s.builtinNetwork(name); all[n.ID].ID == "" {
			all[n.ID] = n
		}
	}
	list := make([]Network, 0, len(all))
	for _, n := range all {
		list = append(list, n)
	}
	slices.SortFunc(list, func(a, b Network) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// builtinNetwork is one of the networks that are always there, as it is before it is used: with no addresses yet.
func (s *Store) builtinNetwork(name string) Network {
	sum := sha256.Sum256([]byte(s.opt.Dir + "\x00" + name))
	n := Network{ID: hex.EncodeToString(sum[:]), Name: name, Driver: name, Created: s.born()}
	switch name {
	case None:
		n.Driver = DriverNull
	case Bridge:
		n.Device = s.device(n)
	}
	return n
}

// born is when the store was made, as near as its directory tells.
func (s *Store) born() time.Time {
	info, err := os.Stat(filepath.Join(s.opt.Dir, "..", "version"))
	if err != nil {
		return time.Time{}
	}
	return info.ModTime().UTC()
}

// Lookup finds a network by name, by id, or by the beginning of one.
func (s *Store) Lookup(ref string) (Network, error) {
	if builtin(ref) { // the everyday case reads one file
		return s.wellKnown(ref)
	}
	all, err := s.List()
	if err != nil {
		return Network{}, err
	}
	var found []Network
	for _, n := range all {
		if n.Name == ref || n.ID == ref {
			return n, nil
		}
		if len(ref) > 0 && strings.HasPrefix(n.ID, ref) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 0:
		return Network{}, noSuch(ref)
	case 1:
		return found[0], nil
	}
	return Network{}, fmt.Errorf("network %s is ambiguous (%d matches found on ID prefix): %w", ref, len(found), errdef.ErrInvalid)
}

func (s *Store) wellKnown(name string) (Network, error) {
	n := s.builtinNetwork(name)
	records, err := s.records()
	if err != nil {
		return n, err
	}
	kept, err := records.Get(n.ID)
	if errors.Is(err, errdef.ErrNotFound) {
		return n, nil
	}
	return kept, err
}

// CreateOptions ask for a new network.
type CreateOptions struct {
	Name       string
	Driver     string // "" is bridge
	IPv6       bool
	Internal   bool
	Attachable bool
	Pools      []Pool // "" of a Pool's fields is chosen
	Options    map[string]string
	Labels     map[string]string
}

// Create makes a network and its bridge.
func (s *Store) Create(ctx context.Context, o CreateOptions) (n Network, err error) {
	if n, err = s.plan(o); err != nil {
		return n, err
	}
	unlock, err := s.lock(ctx, "all")
	if err != nil {
		return n, err
	}
	defer unlock()
	all, err := s.List()
	if err != nil {
		return n, err
	}
	if slices.ContainsFunc(all, func(o Network) bool { return o.Name == n.Name }) {
		return n, &wordedError{fmt.Sprintf("network with name %s already exists", n.Name), errdef.ErrExists}
	}
	if err := clash(all, n); err != nil {
		return n, err
	}
	return n, s.found(ctx, &n)
}

// found gives a network its bridge, and the addresses that nobody named, and records it. The caller holds the lock "all".
func (s *Store) found(_ context.Context, n *Network) error {
	records, err := s.records()
	if err != nil {
		return err
	}
	return s.onMachine(func(k *kernel) error {
		if err := k.clearHalfMade(records); err != nil {
			return err
		}
		if err := s.noteHalfMade(*n); err != nil {
			return err
		}
		defer os.Remove(s.halfMadeFile())
		if err := k.found(n); err != nil {
			return err
		}
		if err := records.Put(n.ID, *n); err != nil {
			return errors.Join(err, k.removeBridge(n.Device))
		}
		return nil
	})
}

// plan is the record of the network to make, as far as it is known.
func (s *Store) plan(o CreateOptions) (Network, error) {
	n := Network{
		ID: newID(), Name: o.Name, Created: time.Now().UTC(), Driver: o.Driver, IPv6: o.IPv6, Internal: o.Internal, Attachable: o.Attachable,
		Pools: slices.Clone(o.Pools), Options: o.Options, Labels: o.Labels,
	}
	if n.Driver == "" {
		n.Driver = DriverBridge
	}
	if err := checkName(n.Name); err != nil {
		return n, err
	}
	switch n.Driver {
	case DriverBridge:
	case DriverHost, DriverNull:
		return n, &wordedError{fmt.Sprintf("only one instance of %q network is allowed", n.Driver), errdef.ErrConflict}
	default:
		return n, errdef.WithHint(fmt.Errorf("network driver %.60q: %w", n.Driver, errdef.ErrUnsupported), "the driver for networks of this machine is bridge")
	}
	for i := range n.Pools {
		if err := n.Pools[i].complete(); err != nil {
			return n, err
		}
		if n.Pools[i].Subnet.Addr().Is6() {
			n.IPv6 = true
		}
	}
	if err := checkPools(n.Pools); err != nil {
		return n, err
	}
	n.Device = s.device(n)
	return n, checkOptions(n)
}

// device is the name of a network's bridge: at most fifteen bytes, with one beginning for all that are ours.
func (s *Store) device(n Network) string {
	if name := n.Options[optBridgeName]; name != "" {
		return name
	}
	if n.Name == Bridge && s.opt.Default {
		return devicePrefix + "0"
	}
	return devicePrefix + "-" + n.ID[:8]
}

// devicePrefix begins the name of every bridge of ours: firewalls may rely on it.
const devicePrefix = "strata"

// Remove removes a network that nobody is in.
func (s *Store) Remove(ctx context.Context, ref string) (Network, error) {
	n, err := s.Lookup(ref)
	if err != nil {
		return n, err
	}
	if n.Builtin() {
		return n, &wordedError{fmt.Sprintf("%s is a pre-defined network and cannot be removed", n.Name), errdef.ErrDenied}
	}
	unlock, err := s.lock(ctx, n.ID)
	if err != nil {
		return n, err
	}
	defer unlock()
	members, err := s.members(n.ID)
	if err != nil {
		return n, err
	}
	if len(members) > 0 {
		return n, inUse(n, members)
	}
	err = s.forget(n)
	if err == nil {
		os.Remove(s.lockFile(n.ID)) // whoever waits for it notices, and finds no network
	}
	return n, err
}

// inUse has docker's words.
func inUse(n Network, members []Endpoint) error {
	names := make([]string, len(members))
	for i, m := range members {
		names[i] = fmt.Sprintf("name:%q id:%q", m.Owner.Name, m.ID[:min(12, len(m.ID))])
	}
	err := &wordedError{fmt.Sprintf("error while removing network: network %s has active endpoints (%s)", n.Name, strings.Join(names, ", ")), errdef.ErrConflict}
	return errdef.WithHint(err, fmt.Sprintf("strata network disconnect %s %s   (or stop the container)", n.Name, members[0].Owner.Name))
}

// forget removes a network's bridge, its place in the table and its record, in this order: what is cut short can be repeated.
func (s *Store) forget(n Network) error {
	err := s.onMachine(func(k *kernel) error {
		return errors.Join(k.withdraw(n), k.removeBridge(n.Device))
	})
	if err != nil {
		return fmt.Errorf("network %s: %w", n.Name, err)
	}
	if err := os.RemoveAll(s.membersDir(n.ID)); err != nil {
		return err
	}
	records, err := s.records()
	if err != nil {
		return err
	}
	if err := records.Delete(n.ID); !errors.Is(err, errdef.ErrNotFound) {
		return err
	}
	return nil
}

// lock takes the lock of a network, or the one of the whole set, "all". It dies with this process.
func (s *Store) lock(ctx context.Context, name string) (unlock func(), err error) {
	if err := os.MkdirAll(s.opt.Run, 0o700); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	l, err := atomicfile.LockExclusive(ctx, s.lockFile(name))
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("networks: another operation holds %s: %w", name, errdef.ErrConflict)
	}
	if err != nil {
		return nil, err
	}
	return func() { _ = l.Unlock() }, nil // closing the file is all that it does
}

func (s *Store) lockFile(name string) string { return filepath.Join(s.opt.Run, name+".lock") }

// lockWait is how long an operation waits for others, which are short.
const lockWait = 30 * time.Second

func newID() string {
	var b [32]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

func noSuch(ref string) error {
	return &wordedError{"network " + ref + " not found", errdef.ErrNotFound}
}

// wordedError has docker's exact words.
type wordedError struct {
	text  string
	class error
}

func (e *wordedError) Error() string { return e.text }
func (e *wordedError) Unwrap() error { return e.class }

// Clear removes all networks with all that was made for them.
func (s *Store) Clear(ctx context.Context) error {
	if _, err := os.Stat(s.opt.Run); errors.Is(err, os.ErrNotExist) {
		return nil // none was ever used since the machine was started
	}
	unlock, err := s.lock(ctx, "all")
	if err != nil {
		return err
	}
	defer unlock()
	all, err := s.List()
	if err != nil {
		return err
	}
	if s.opt.Userns {
		return errors.Join(s.leaveGround(), os.RemoveAll(s.opt.Run))
	}
	records, err := s.records()
	if err != nil {
		return err
	}
	err = s.onMachine(func(k *kernel) error {
		errs := []error{k.clearHalfMade(records)}
		for _, n := range all {
			if n.Driver == DriverBridge {
				errs = append(errs, k.removeBridge(n.Device))
			}
		}
		return errors.Join(append(errs, k.dropTables())...)
	})
	return errors.Join(err, os.RemoveAll(s.opt.Run))
}

// Reload makes the firewall's rules anew: other programs flush all that there are.
func (s *Store) Reload(ctx context.Context) error {
	unlock, err := s.lock(ctx, "all")
	if err != nil {
		return err
	}
	defer unlock()
	all, err := s.List()
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(n Network) bool { return n.Driver != DriverBridge || len(n.Pools) == 0 })
	if len(all) == 0 {
		return nil // no network was ever used
	}
	return s.onMachine(func(k *kernel) error { return k.rebuild(&all[0]) })
}
