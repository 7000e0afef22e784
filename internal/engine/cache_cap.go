package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/atomicfile"
	"strata/internal/config"
	"strata/internal/errdef"
	"strata/internal/graph"
)

// CacheCap bounds the build cache: to Bytes, or to Percent of the store's file system. The zero CacheCap is the default, a
// tenth of the file system, at least 2 GiB.
type CacheCap struct {
	Bytes   int64
	Percent float64
	// None: there is no bound.
	None bool
}

const (
	defaultCapPercent = 10
	leastCap          = 2 << 30
)

// ParseCap reads a bound as people write it: a size ("20g"), a part of the disk ("15%"), or "none"; "" is the usual one.
func ParseCap(value string) (CacheCap, error) {
	bad := fmt.Errorf("want a size, a percentage of the disk, or none: %w", errdef.ErrInvalid)
	value = strings.TrimSpace(value)
	switch value {
	case "":
		return CacheCap{}, nil
	case "none", "0":
		return CacheCap{None: true}, nil
	}
	if part, ok := strings.CutSuffix(value, "%"); ok {
		n, err := strconv.ParseFloat(strings.TrimSpace(part), 64)
		if err != nil || !(n > 0 && n <= 100) {
			return CacheCap{}, bad
		}
		return CacheCap{Percent: n}, nil
	}
	n, err := config.ParseSize(value)
	if err != nil || n <= 0 {
		return CacheCap{}, bad
	}
	return CacheCap{Bytes: n}, nil
}

// bytes is the bound for a store; 0 is none. percent of its file system, and at least least, is the usual one.
func (c CacheCap) bytes(root string, percent float64, least int64) (int64, error) {
	if c.None || c.Bytes > 0 {
		return c.Bytes, nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: root, Err: err}
	}
	disk := float64(st.Blocks) * float64(st.Bsize)
	if c.Percent > 0 {
		return max(1, int64(disk*c.Percent/100)), nil
	}
	return max(least, int64(disk*percent/100)), nil
}

// growth is what a build added to the cache, as far as it knows.
type growth struct {
	known bool // the build told of all its steps
	ran   bool
	bytes int64
}

func (g *growth) add(l graph.Link) {
	g.known, g.ran = true, g.ran || l.Ran
	if l.Ran {
		g.bytes += l.Size
	}
}

// cacheEstimate is what the cache had when it was measured, and builds have added since.
type cacheEstimate struct {
	Measured time.Time `json:"measured"`
	Total    int64     `json:"total"`
}

// estimateLife is how long an estimate is believed that is far from the bound.
const estimateLife = time.Hour

// CapCache brings the build cache down to nine tenths of limit if it has grown past limit, and removes what was unused for
// longer than strata.toml allows. It is called when a build is over, with what [Engine.Build] gave: what the build itself holds is let go first. Measuring takes time that grows with the
// cache, so it is left out while the cache is known to be far from the bound.
func (e *Engine) CapCache(ctx context.Context, res BuildResult, limit CacheCap) error {
	bound, err := limit.bytes(e.opts.Root, defaultCapPercent, leastCap)
	if err != nil {
		return err
	}
	age, err := e.cacheAge()
	if err != nil || bound == 0 && age == 0 || res.cache == nil || res.cache.grown.known && !res.cache.grown.ran {
		return err
	}
	file := filepath.Join(e.cacheDir(), "estimate")
	if res.cache.grown.known && !res.cache.mounts && e.far(file, res.cache.grown.bytes, bound) {
		return nil
	}
	if err := e.Close(); err != nil {
		return err
	}
	e.lease = nil
	if age > 0 {
		if _, _, err := e.PruneBuilder(ctx, CachePrune{All: true, Filters: []string{"until=" + age.String()}}); err != nil {
			return err
		}
	}
	total, err := e.cacheTotal(ctx)
	if err != nil {
		return err
	}
	if bound > 0 && total > bound {
		if _, _, err := e.PruneBuilder(ctx, CachePrune{Keep: bound / 10 * 9, Capped: true}); err != nil {
			return err
		}
		if total, err = e.cacheTotal(ctx); err != nil {
			return err
		}
	}
	return writeEstimate(file, cacheEstimate{time.Now(), total})
}

// cacheAge is how long something in the build cache may be unused; 0 is for ever.
func (e *Engine) cacheAge() (time.Duration, error) {
	c, err := e.Config()
	if err != nil {
		return 0, err
	}
	age, err := parseAge(c.Store.BuildCacheMaxAge)
	return age, c.Fault("store.build-cache-max-age", err)
}

func (e *Engine) cacheTotal(ctx context.Context) (int64, error) {
	have, err := e.inventory(ctx)
	if err != nil {
		return 0, err
	}
	sizes, err := have.sizes()
	if err != nil {
		return 0, err
	}
	u, _, err := have.cacheUsage(sizes)
	return u.Size, err
}

// far adds to the estimate and reports whether the cache is far from the bound.
func (e *Engine) far(file string, added, bound int64) bool {
	var known cacheEstimate
	raw, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(raw, &known) != nil || time.Since(known.Measured) > estimateLife {
		return false
	}
	known.Total += added
	return (bound == 0 || known.Total < bound/2) && writeEstimate(file, known) == nil
}

func writeEstimate(file string, known cacheEstimate) error {
	raw, err := json.Marshal(known)
	if err != nil {
		return err
	}
	return atomicfile.Write(file, raw, 0o600)
}
