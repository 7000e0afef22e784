package network

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"

	"strata/internal/atomicfile"
	"strata/internal/errdef"
	"strata/internal/record"
)

// A network's addresses are known when its bridge has them, so the bridge is there before the record. Which one is just being made stands
// in a file: of a process that was killed in between nobody would know else, and the bridge would keep its addresses from all others.

func (s *Store) halfMadeFile() string { return filepath.Join(s.opt.Run, "half-made") }

// noteHalfMade is called before the bridge is made, by the holder of the lock "all".
func (s *Store) noteHalfMade(n Network) error {
	raw, err := json.Marshal(Network{ID: n.ID, Name: n.Name, Device: n.Device})
	if err != nil {
		return err
	}
	return atomicfile.Write(s.halfMadeFile(), raw, 0o600)
}

// clearHalfMade takes away the bridge that a killed process left, if it made one and no record. The caller holds the lock "all".
func (k *kernel) clearHalfMade(records *record.Dir[Network]) error {
	raw, err := os.ReadFile(k.s.halfMadeFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var n Network
	if json.Unmarshal(raw, &n) == nil {
		_, err = records.Get(n.ID)
	}
	switch {
	case errors.Is(err, errdef.ErrNotFound):
		err = k.unmake(n)
	case errors.Is(err, errdef.ErrCorrupt): // that there is one is enough
		err = nil
	}
	if err != nil {
		return err
	}
	return os.Remove(k.s.halfMadeFile())
}

// unmake removes a network's bridge. A device of that name which is not ours was there before.
func (k *kernel) unmake(n Network) error {
	link, err := k.rt.LinkByName(n.Device)
	var gone netlink.LinkNotFoundError
	if errors.As(err, &gone) {
		return nil
	}
	if err != nil || link.Attrs().HardwareAddr.String() != bridgeMAC(n.ID).String() {
		return err
	}
	return errors.Join(k.withdraw(n), k.removeBridge(n.Device))
}
