package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"strata/internal/atomicfile"
	"strata/internal/errdef"
	"strata/internal/record"
)

// Format is the version of the store's layout on disk. A store of an older format is migrated, one of any other is refused:
// none is misread.
const Format = 2

// claim writes the store's format into a new store, migrates an older one, and refuses a store of a format that it does not
// know.
func claim(ctx context.Context, root string) error {
	file := filepath.Join(root, "version")
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		if err := empty(root); err != nil {
			return err
		}
		return writeFormat(file)
	}
	if err != nil {
		return fmt.Errorf("store %s: %w", root, unwritable(root, err))
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	switch {
	case err == nil && n == Format:
		return nil
	case err == nil && n == 1:
		return migrate(ctx, root, file)
	}
	return errdef.WithHint(fmt.Errorf("store %s has format %.20q, this strata reads format %d: %w",
		root, strings.TrimSpace(string(raw)), Format, errdef.ErrUnsupported),
		"use the strata that made it, or another store: --root DIR")
}

func writeFormat(file string) error {
	if err := atomicfile.WriteDurable(file, fmt.Appendln(nil, Format), 0o600); err != nil {
		return fmt.Errorf("store: %w", unwritable(filepath.Dir(file), err))
	}
	return nil
}

// migrate makes a store of format 1 one of format 2, in which every record has a checksum. A strata that reads format 1 reads
// a record with checksum as well, so a migration that is cut short leaves a store of format 1; it must not write any more,
// so nothing of it may run.
func migrate(ctx context.Context, root, file string) error {
	guard := record.NewGuard(filepath.Join(root, "gc.lock"))
	err := guard.Exclusive(ctx, func() error {
		if raw, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(raw)) != "1" {
			return err // another process was faster
		}
		leases, err := record.OpenLeases(filepath.Join(root, "leases"), guard)
		if err != nil {
			return err
		}
		busy, err := leases.Busy()
		if err != nil {
			return err
		}
		running, err := aliveIn(root)
		if err != nil {
			return err
		}
		if busy || running != "" {
			return inUse(busy, running)
		}
		if err := stampAll(root); err != nil {
			return err
		}
		return writeFormat(file)
	})
	if err != nil {
		return fmt.Errorf("store %s: migrate from format 1 to %d: %w", root, Format, err)
	}
	return nil
}

func inUse(busy bool, running string) error {
	if busy {
		return errdef.WithHint(fmt.Errorf("commands of an older strata are at work in it: %w", errdef.ErrConflict), "wait for them and try again")
	}
	return errdef.WithHint(fmt.Errorf("container %s of an older strata runs: %w", running, errdef.ErrConflict),
		"stop it with the strata that started it, and try again")
}

// aliveIn names a container whose record, of format 1, says that it runs in this boot.
func aliveIn(root string) (string, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	files, err := fs.Glob(os.DirFS(root), "containers/*.json")
	if err != nil {
		return "", err
	}
	for _, file := range files {
		var rec struct {
			Name  string
			State struct{ Status, BootID string }
		}
		raw, err := os.ReadFile(filepath.Join(root, file))
		if err != nil || json.Unmarshal(raw, &rec) != nil {
			continue // whose record cannot be read nobody can stop
		}
		if s := rec.State; (s.Status == "running" || s.Status == "paused") && s.BootID == strings.TrimSpace(string(boot)) {
			return rec.Name, nil
		}
	}
	return "", nil
}

// stampAll gives a checksum to every record that can be read.
func stampAll(root string) error {
	for _, pattern := range []string{
		"images/*.json", "refs/*.json", "containers/*.json", "bases/*.json",
		"layers/*/meta.json", "cache/entries/*.json", "cache/entries/*.content",
	} {
		files, err := fs.Glob(os.DirFS(root), pattern)
		if err != nil {
			return err
		}
		for _, file := range files {
			if err := stampFile(filepath.Join(root, file)); err != nil {
				return err
			}
		}
	}
	return nil
}

// stampFile leaves what is damaged as it is: for a check to name it.
func stampFile(file string) error {
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) || err == nil && (atomicfile.Stamped(raw) || !json.Valid(raw) || !bytes.HasPrefix(raw, []byte("{"))) {
		return nil
	}
	if err != nil {
		return err
	}
	fi, err := os.Stat(file)
	if err != nil {
		return err
	}
	if err := atomicfile.WriteDurable(file, atomicfile.Stamp(raw), 0o600); err != nil {
		return err
	}
	return os.Chtimes(file, fi.ModTime(), fi.ModTime()) // of an entry of the build cache it says when it was last used
}
