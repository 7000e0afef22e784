package engine

import (
	"context"
	"errors"
	"os"

	"strata/internal/atomicfile"
)

// durableVariable says when what a command made is on the disk, before strata.toml does.
const durableVariable = "STRATA_DURABLE"

// durable says when what this engine makes must be on the disk.
func (e *Engine) durable() (atomicfile.Durability, error) {
	if s := os.Getenv(durableVariable); s != "" {
		return atomicfile.ParseDurability(s)
	}
	c, err := e.Config()
	if err != nil {
		return "", err
	}
	d, err := atomicfile.ParseDurability(c.Store.Durable)
	return d, c.Fault("store.durable", err)
}

// heed lets blobs and records heed it; layers are told as their store is opened.
func (e *Engine) heed() {
	e.content.Durable(e.durable)
	e.images.Images.Durable(e.durable)
	e.images.Tags.Durable(e.durable)
}

// seal flushes what this engine wrote to the disk; after it, records may refer to it for good.
func (e *Engine) seal(ctx context.Context) error {
	if err := e.content.Sync(); err != nil {
		return err
	}
	return e.layers.Sync(ctx)
}

// settle returns when records that this engine removed are gone for good.
func (e *Engine) settle() error {
	return errors.Join(e.images.Tags.Sync(), e.images.Images.Sync())
}

// settleAll returns when all records are gone for good that are gone now. What they referred to may be removed after it.
func (e *Engine) settleAll() error {
	s, err := e.Containers()
	if err != nil {
		return err
	}
	return errors.Join(e.images.Tags.SyncAll(), e.images.Images.SyncAll(), s.Records().SyncAll())
}
