package layer

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"strata/internal/atomicfile"
	"strata/internal/errdef"
	"strata/internal/oci"
)

// Sync returns when every layer that this Store wrote, or found and gave out, is on the disk and sealed. One that was
// collected meanwhile is passed over. A layer is recorded as sealed only after its bytes are flushed, so that a record
// never says too much. Where nothing is to be flushed it does nothing.
func (s *Store) Sync(ctx context.Context) error {
	if when, err := s.opt.Durable.Get(); err != nil || when == atomicfile.Never {
		return err
	}
	s.sealing.Lock() // what another goroutine is just flushing is not on the disk yet
	defer s.sealing.Unlock()
	s.mu.Lock()
	todo := s.unsealed
	s.unsealed = map[oci.DiffID]bool{}
	s.mu.Unlock()
	if err := s.seal(ctx, todo); err != nil {
		for id := range todo {
			s.note(id)
		}
		return err
	}
	return nil
}

// fewLayers is how many layers in tar form are flushed file by file; above, one flush of the whole file system is cheaper.
const fewLayers = 32

func (s *Store) seal(ctx context.Context, todo map[oci.DiffID]bool) error {
	few := len(todo) <= fewLayers // files: no layer is a directory of many
	for id := range todo {
		m, err := s.stat(id)
		if errors.Is(err, errdef.ErrNotFound) {
			delete(todo, id) // another process has removed it
			continue
		}
		few = few && m.Form == formTar
	}
	if len(todo) == 0 {
		return nil
	}
	flush := func(...string) error { return s.flush() }
	if few {
		flush = func(names ...string) error { return s.flushEach(todo, names) }
	}
	if err := flush(tarName, indexName, sumsName, metaName); err != nil {
		return err
	}
	for id := range todo {
		// What another process has sealed meanwhile may not be on the disk yet: the flush below is for that, too.
		err := s.update(ctx, id, func(m *Meta) bool {
			sealed := m.Sealed
			m.Sealed = true
			return !sealed
		})
		if err != nil && !errors.Is(err, errdef.ErrNotFound) {
			return err
		}
	}
	return flush(metaName)
}

// published notes a layer that was just given its name, and seals it where each is to be flushed at once.
func (s *Store) published(ctx context.Context, id oci.DiffID) error {
	s.note(id)
	if when, err := s.opt.Durable.Get(); err != nil || when != atomicfile.Always {
		return err
	}
	return s.Sync(ctx)
}

// flush writes all of the store's file system to the disk: layers are thousands of files, as directories.
func (s *Store) flush() error {
	dir, err := os.Open(s.dir)
	if err != nil {
		return fmt.Errorf("layer store: %w", err)
	}
	defer dir.Close()
	if err := unix.Syncfs(int(dir.Fd())); err != nil {
		return fmt.Errorf("layer store: flush: %w", err)
	}
	return nil
}
