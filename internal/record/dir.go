package record

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"strata/internal/atomicfile"
	"strata/internal/errdef"
	"strata/internal/parallel"
)

const suffix = ".json"

// maxRecord bounds a record in memory: no record that strata writes comes near it.
const maxRecord = 64 << 20

// Dir is a directory of records of one kind: <dir>/<escaped key>.json.
// A key is any non-empty text of at most 200 bytes when escaped as a URL path segment.
type Dir[T any] struct {
	path    string
	noun    string
	policy  atomicfile.Policy
	syncing sync.Mutex  // held by who flushes
	deleted atomic.Bool // since the last Sync
}

// OpenDir opens the directory at path, making it if need be. noun names one record in errors: "tag", "container".
func OpenDir[T any](path, noun string) (*Dir[T], error) {
	if err := os.MkdirAll(path, 0o711); err != nil {
		return nil, err
	}
	return &Dir[T]{path: path, noun: noun}, nil
}

// Durable says when records are on the disk: unless policy says never, each when Put returns.
func (d *Dir[T]) Durable(policy atomicfile.Policy) { d.policy = policy }

// Sync returns when the records that this Dir deleted are gone for good.
func (d *Dir[T]) Sync() error {
	d.syncing.Lock() // what another goroutine is just flushing is not on the disk yet
	defer d.syncing.Unlock()
	if !d.deleted.Swap(false) {
		return nil
	}
	return d.SyncAll()
}

// SyncAll returns when the records that whoever deleted are gone for good.
func (d *Dir[T]) SyncAll() error {
	if when, err := d.policy.Get(); err != nil || when == atomicfile.Never {
		return err
	}
	err := atomicfile.SyncDir(d.path)
	if err != nil {
		d.deleted.Store(true)
	}
	return err
}

// Get returns the record of key, errdef.ErrNotFound without one, errdef.ErrCorrupt when it cannot be read.
func (d *Dir[T]) Get(key string) (T, error) {
	var v T
	file, err := d.file(key)
	if err != nil {
		return v, err
	}
	raw, _, err := atomicfile.Read(file, maxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return v, fmt.Errorf("%s %q: %w", d.noun, key, errdef.ErrNotFound)
	}
	if err != nil {
		return v, fmt.Errorf("%s %q: %w", d.noun, key, err)
	}
	raw, err = atomicfile.Unstamp(raw)
	if err == nil {
		if err = json.Unmarshal(raw, &v); err != nil {
			err = fmt.Errorf("%w: %w", errdef.ErrCorrupt, err)
		}
	}
	if err != nil {
		return v, errdef.WithHint(fmt.Errorf("%s %q: its record: %w", d.noun, key, err), "strata system check --repair")
	}
	return v, nil
}

// Correct reads a record in which one bit rotted, as it was before: errdef.ErrCorrupt when the damage is another.
func (d *Dir[T]) Correct(key string) (T, error) {
	return d.lenient(key, func(raw []byte) ([]byte, error) {
		object, ok := atomicfile.Correct(raw)
		if !ok {
			return nil, fmt.Errorf("more than one bit is wrong in its record: %w", errdef.ErrCorrupt)
		}
		return object, nil
	})
}

// Salvage reads a record whose checksum is missing or wrong, as far as it still is JSON. Whoever uses it proves what it says by
// other means.
func (d *Dir[T]) Salvage(key string) (T, error) {
	if v, err := d.Correct(key); err == nil {
		return v, nil
	}
	return d.lenient(key, func(raw []byte) ([]byte, error) { return atomicfile.Strip(raw), nil })
}

func (d *Dir[T]) lenient(key string, object func(raw []byte) ([]byte, error)) (T, error) {
	var v T
	file, err := d.file(key)
	if err != nil {
		return v, err
	}
	raw, err := os.ReadFile(file)
	if err == nil {
		raw, err = object(raw)
	}
	if err == nil {
		err = json.Unmarshal(raw, &v)
	}
	if err != nil {
		return v, fmt.Errorf("%s %q: %w", d.noun, key, err)
	}
	return v, nil
}

// Put publishes v under key, replacing what was there. Use [Dir.Update] where the new value depends on the old one.
func (d *Dir[T]) Put(key string, v T) error {
	when, err := d.policy.Get()
	if err != nil {
		return err
	}
	if when == atomicfile.Never {
		return d.PutVolatile(key, v)
	}
	return d.put(key, v, atomicfile.WriteDurable)
}

// PutVolatile is [Dir.Put] without waiting for the disk, for records that may be lost in a power cut.
func (d *Dir[T]) PutVolatile(key string, v T) error { return d.put(key, v, atomicfile.Write) }

func (d *Dir[T]) put(key string, v T, write func(path string, data []byte, mode os.FileMode) error) error {
	file, err := d.file(key)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("%s %q: %w", d.noun, key, err)
	}
	return write(file, atomicfile.Stamp(append(raw, '\n')), 0o600)
}

// Update changes the record of key under its lock: change gets the value (zero and false without one) and gives the new
// one. When change fails nothing is written and its error is returned.
func (d *Dir[T]) Update(ctx context.Context, key string, change func(v *T, exists bool) error) error {
	return d.Locked(ctx, key, func() error {
		v, err := d.Get(key)
		exists := err == nil
		if err != nil && !errors.Is(err, errdef.ErrNotFound) {
			return err
		}
		if err := change(&v, exists); err != nil {
			return err
		}
		return d.Put(key, v)
	})
}

// Create publishes v under key unless there is a record: errdef.ErrExists.
func (d *Dir[T]) Create(ctx context.Context, key string, v T) error {
	return d.Update(ctx, key, func(old *T, exists bool) error {
		if exists {
			return fmt.Errorf("%s %q: %w", d.noun, key, errdef.ErrExists)
		}
		*old = v
		return nil
	})
}

// Locked runs fn while it holds the lock of key's record. Get and Put may be called inside, Update not.
func (d *Dir[T]) Locked(ctx context.Context, key string, fn func() error) error {
	file, err := d.file(key)
	if err != nil {
		return err
	}
	lock, err := atomicfile.LockExclusive(ctx, strings.TrimSuffix(file, suffix)+".lock")
	if err != nil {
		return err
	}
	defer lock.Unlock()
	err = fn()
	if _, gone := os.Stat(file); errors.Is(gone, fs.ErrNotExist) {
		// Of a record that is not there no lock file stays. Whoever waits on it notices that it lost its name.
		os.Remove(strings.TrimSuffix(file, suffix) + ".lock")
	}
	return err
}

// Delete removes the record of key; errdef.ErrNotFound without one. Until [Dir.Sync] a power cut may bring it back.
func (d *Dir[T]) Delete(key string) error {
	file, err := d.file(key)
	if err != nil {
		return err
	}
	err = os.Remove(file)
	if err == nil {
		d.deleted.Store(true)
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		// Whoever waits on the lock file notices that it lost its name and makes a new one.
		os.Remove(strings.TrimSuffix(file, suffix) + ".lock")
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s %q: %w", d.noun, key, errdef.ErrNotFound)
	}
	return err
}

// Touch gives the record of key a time, which is not part of it; errdef.ErrNotFound without one.
func (d *Dir[T]) Touch(key string, at time.Time) error {
	file, err := d.file(key)
	if err == nil {
		err = os.Chtimes(file, at, at)
	}
	return d.missing(key, err)
}

// Touched is the time of the record of key: when it was written or touched last.
func (d *Dir[T]) Touched(key string) (time.Time, error) {
	file, err := d.file(key)
	if err != nil {
		return time.Time{}, err
	}
	fi, err := os.Stat(file)
	if err != nil {
		return time.Time{}, d.missing(key, err)
	}
	return fi.ModTime(), nil
}

func (d *Dir[T]) missing(key string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s %q: %w", d.noun, key, errdef.ErrNotFound)
	}
	return err
}

// Keys lists the keys in no particular order.
func (d *Dir[T]) Keys() ([]string, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, err
	}
	var keys []string
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok || atomicfile.IsTemp(e.Name()) {
			continue
		}
		if key, err := url.PathUnescape(name); err == nil {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// All returns every record by key. A record deleted while we read is left out; one that cannot be read is an error.
func (d *Dir[T]) All() (map[string]T, error) {
	keys, err := d.Keys()
	if err != nil {
		return nil, err
	}
	values, there := make([]T, len(keys)), make([]bool, len(keys))
	err = parallel.Each(len(keys), func(i int) error {
		v, err := d.Get(keys[i])
		if errors.Is(err, errdef.ErrNotFound) {
			return nil
		}
		values[i], there[i] = v, true
		return err
	})
	if err != nil {
		return nil, err
	}
	all := make(map[string]T, len(keys))
	for i, key := range keys {
		if there[i] {
			all[key] = values[i]
		}
	}
	return all, nil
}

// Path is the directory's own path, for whoever checks or measures the store.
func (d *Dir[T]) Path() string { return d.path }

func (d *Dir[T]) file(key string) (string, error) {
	file, err := File(d.path, key)
	if err != nil {
		return "", fmt.Errorf("%s %w", d.noun, err)
	}
	return file, nil
}

// File is where the directory of records at dir keeps the record of key, for who may not open the directory.
func File(dir, key string) (string, error) {
	name := url.PathEscape(key)
	if key == "" || len(name) > 200 || strings.HasPrefix(name, ".") {
		return "", fmt.Errorf("%.80q: bad key: %w", key, errdef.ErrInvalid)
	}
	return filepath.Join(dir, name+suffix), nil
}
