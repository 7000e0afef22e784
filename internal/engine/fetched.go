package engine

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"strata/internal/errdef"
	"strata/internal/fetch"
)

// fetchDir keeps what builds fetched: downloads and git repositories.
func (e *Engine) fetchDir() string { return filepath.Join(e.cacheDir(), "fetch") }

// pruneFetched removes what builds fetched and none fetches just now, unless it was used after the time until (when that is
// set). It gives how many things these were and their size.
func (e *Engine) pruneFetched(until time.Time) (n int, freed int64, err error) {
	all, err := fetch.List(e.fetchDir())
	if err != nil || len(all) == 0 {
		return 0, 0, err
	}
	trash := filepath.Join(e.opts.Root, "trash")
	if err := os.MkdirAll(trash, 0o700); err != nil {
		return 0, 0, err
	}
	for _, kept := range all {
		if !until.IsZero() && kept.Used.After(until) {
			continue
		}
		err := kept.Trash(trash)
		if errors.Is(err, errdef.ErrConflict) {
			continue
		}
		if err != nil {
			return n, freed, err
		}
		n, freed = n+1, freed+kept.Size
	}
	return n, freed, nil
}
