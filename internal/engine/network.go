package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"strata/internal/beside"
	"strata/internal/config"
	"strata/internal/container"
	"strata/internal/errdef"
	"strata/internal/event"
	"strata/internal/network"
	"strata/internal/userns"
)

// openNetworks opens the networks of a store. Other stores may share the run directory.
func openNetworks(root, run string) *network.Store {
	sum := sha256.Sum256([]byte(root))
	return network.Open(network.Options{
		Dir: filepath.Join(root, "networks"), Run: filepath.Join(run, "net", hex.EncodeToString(sum[:6])),
		Default: root == ownRoot(), Userns: userns.Active(), Helper: beside.Find("strata-net"), Pools: addressPools,
	})
}

// addressPools are those of strata.toml.
func addressPools() ([]network.AddressPool, error) {
	c, err := config.Load()
	if err != nil {
		return nil, err
	}
	var pools []network.AddressPool
	for _, p := range c.Network.AddressPools {
		pool, err := network.ParseAddressPool(p.Base, p.Size)
		if err != nil {
			return nil, c.Fault("network.address-pools", err)
		}
		pools = append(pools, pool)
	}
	return pools, nil
}

// Networks are the store's networks.
func (e *Engine) Networks() *network.Store { return openNetworks(e.opts.Root, e.opts.Run) }

// DefaultNetwork is the network of a container that asks for none: the bridge, or this machine's own with the reason why
// containers cannot have one.
func (e *Engine) DefaultNetwork() (string, error) {
	if err := e.Networks().Available(); err != nil {
		return network.Host, err
	}
	return network.Bridge, nil
}

func (e *Engine) emitNetwork(action string, n network.Network, attributes ...string) {
	e.events.Emit(event.New(event.Network, action, n.ID, nil, append(attributes, "name", n.Name, "type", n.Driver)...))
}

// CreateNetwork makes a network.
func (e *Engine) CreateNetwork(ctx context.Context, o network.CreateOptions) (network.Network, error) {
	n, err := e.Networks().Create(ctx, o)
	if err == nil {
		e.emitNetwork("create", n)
	}
	return n, err
}

// RemoveNetwork removes a network that no running container is in.
func (e *Engine) RemoveNetwork(ctx context.Context, ref string) error {
	s, err := e.Containers()
	if err != nil {
		return err
	}
	if err := s.ClearNetworks(ctx); err != nil {
		return err
	}
	n, err := e.Networks().Remove(ctx, ref)
	if err == nil {
		e.emitNetwork("destroy", n)
	}
	return err
}

// Connect puts a container into a network.
func (e *Engine) Connect(ctx context.Context, ref string, a network.Attachment) error {
	return e.inNetwork(ctx, ref, a.Network, "connect", func(s *container.Store, rec container.Record, _ network.Network) error {
		return s.ConnectNetwork(ctx, rec, a)
	})
}

// Disconnect takes a container out of a network.
func (e *Engine) Disconnect(ctx context.Context, ref, name string) error {
	return e.inNetwork(ctx, ref, name, "disconnect", func(s *container.Store, rec container.Record, n network.Network) error {
		return s.DisconnectNetwork(ctx, rec, n)
	})
}

func (e *Engine) inNetwork(ctx context.Context, ref, name, action string, do func(*container.Store, container.Record, network.Network) error) error {
	n, err := e.Networks().Lookup(name)
	if err != nil {
		return err
	}
	s, err := e.Containers()
	if err != nil {
		return err
	}
	rec, err := s.Lookup(ctx, ref)
	if err != nil {
		return err
	}
	if err := do(s, rec, n); err != nil {
		return err
	}
	e.emitNetwork(action, n, "container", rec.ID)
	return nil
}

// NetworkFilter chooses networks by docker's filters.
type NetworkFilter map[string][]string

// ParseNetworkFilter reads filters of `network ls` and `network prune`.
func ParseNetworkFilter(specs []string) (NetworkFilter, error) {
	f := NetworkFilter{}
	for _, spec := range specs {
		key, value, ok := strings.Cut(spec, "=")
		if !ok || !slices.Contains([]string{"driver", "id", "label", "label!", "name", "scope", "type", "dangling", "until"}, key) {
			return nil, fmt.Errorf("invalid filter '%.80s': %w", spec, errdef.ErrInvalid)
		}
		f[key] = append(f[key], value)
	}
	return f, nil
}

// Match reports whether all filters hold; members says how many are in the network.
func (f NetworkFilter) Match(n network.Network, members int) bool {
	any := func(key string, holds func(value string) bool) bool {
		return len(f[key]) == 0 || slices.ContainsFunc(f[key], holds)
	}
	hasLabel := func(v string) bool {
		key, value, given := strings.Cut(v, "=")
		have, ok := n.Labels[key]
		return ok && (!given || have == value)
	}
	return any("driver", func(v string) bool { return v == n.Driver }) &&
		any("id", func(v string) bool { return strings.HasPrefix(n.ID, v) }) &&
		any("name", func(v string) bool { return NameMatches(v, n.Name) }) &&
		any("scope", func(v string) bool { return v == "local" }) &&
		any("type", func(v string) bool { return v == "builtin" == n.Builtin() }) &&
		any("dangling", func(v string) bool { return (v == "true" || v == "1") == (members == 0 && !n.Builtin()) }) &&
		any("until", func(v string) bool { return olderThan(n.Created, v) }) &&
		!slices.ContainsFunc(f["label"], func(v string) bool { return !hasLabel(v) }) &&
		!slices.ContainsFunc(f["label!"], hasLabel)
}

// olderThan reports whether t lies before a moment that is written as an age or a date.
func olderThan(t time.Time, moment string) bool {
	if age, err := time.ParseDuration(moment); err == nil {
		return t.Before(time.Now().Add(-age))
	}
	at, err := time.Parse(time.RFC3339, moment)
	return err == nil && t.Before(at)
}

// PruneNetworks removes the networks that nobody is in and gives their names. A dry run removes none, nor those from them who were killed.
func (e *Engine) PruneNetworks(ctx context.Context, f NetworkFilter, dry bool) (removed []string, err error) {
	s, err := e.Containers()
	if err != nil {
		return nil, err
	}
	if !dry {
		if err := s.ClearNetworks(ctx); err != nil {
			return nil, err
		}
	}
	networks := e.Networks()
	all, err := networks.List()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, n := range all {
		members, err := networks.Members(n)
		if err != nil || n.Builtin() || s.Seated(members) || !f.Match(n, 0) {
			errs = append(errs, err)
			continue
		}
		if dry {
			removed = append(removed, n.Name)
			continue
		}
		_, err = networks.Remove(ctx, n.ID)
		switch {
		case errors.Is(err, errdef.ErrConflict), errors.Is(err, errdef.ErrNotFound): // somebody came, or it is gone
		case err != nil:
			errs = append(errs, err)
		default:
			removed = append(removed, n.Name)
			e.emitNetwork("destroy", n)
		}
	}
	return removed, errors.Join(errs...)
}
