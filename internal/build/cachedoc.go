package build

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"strata/internal/errdef"
	"strata/internal/graph"
	"strata/internal/oci"
)

// CacheConfigType is the media type of the config of a manifest that carries a build cache. Its layers are those of the
// manifest, in the order of [CacheConfig.Layers].
const CacheConfigType = "application/vnd.strata.build.cache.config.v1+json"

// CacheConfig is the config of an exported build cache.
type CacheConfig struct {
	graph.Export
	// Layers that travel with it, by diffID.
	Layers []oci.DiffID `json:"layers"`
}

// ParseCacheConfig reads the config of a cache that came from elsewhere, whose manifest has so many layers. dropped counts
// the entries that prove nothing and were left out.
func ParseCacheConfig(raw []byte, layers int) (c *CacheConfig, dropped int, err error) {
	if len(raw) > graph.MaxExport {
		return nil, 0, fmt.Errorf("build cache config of %d bytes (at most %d): %w", len(raw), graph.MaxExport, errdef.ErrLimit)
	}
	c = &CacheConfig{}
	if err := json.Unmarshal(raw, c); err != nil {
		return nil, 0, fmt.Errorf("build cache config: %w: %w", errdef.ErrInvalid, err)
	}
	if dropped, err = c.Check(time.Now().UTC()); err != nil {
		return nil, 0, err
	}
	if len(c.Layers) != layers {
		return nil, 0, fmt.Errorf("build cache config: it lists %d layers, its manifest %d: %w", len(c.Layers), layers, errdef.ErrInvalid)
	}
	for _, id := range c.Layers {
		if _, err := oci.ParseDiffID(string(id)); err != nil {
			return nil, 0, fmt.Errorf("build cache config: %w", err)
		}
	}
	good := c.Entries[:0]
	for _, e := range c.Entries {
		if _, err := decodeState(e.Result); err != nil {
			dropped++
			continue
		}
		good = append(good, e)
	}
	c.Entries = good
	return c, dropped, nil
}

// CacheManifest is the manifest of a cache: its bytes are the same for the same cache.
func CacheManifest(config ocispec.Descriptor, layers []ocispec.Descriptor) ([]byte, error) {
	if layers == nil {
		layers = []ocispec.Descriptor{}
	}
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: layers}
	m.SchemaVersion = 2
	return oci.Marshal(m)
}

// Encode gives the config's bytes.
func (c *CacheConfig) Encode() ([]byte, error) {
	if c.Layers == nil {
		c.Layers = []oci.DiffID{}
	}
	raw, err := json.Marshal(c)
	if err == nil && len(raw) > graph.MaxExport {
		err = fmt.Errorf("build cache config of %d bytes (at most %d): %w", len(raw), graph.MaxExport, errdef.ErrLimit)
	}
	return raw, err
}

// ImportedCache is what caches from elsewhere have, the first one first. It is a graph.Remote.
type ImportedCache struct {
	entries map[graph.Key]graph.Exported
	aliases map[graph.Key]graph.Key
	layers  ImportedLayers

	mu       sync.Mutex
	fetching map[oci.DiffID]*sync.Mutex
}

// ImportedLayers brings the layers of imported caches into the store.
type ImportedLayers interface {
	// Has reports whether the layer is in the store or in one of the caches.
	Has(id oci.DiffID) bool
	// Fetch stores the layer, unless it is there, and holds it. An error that is not the context's means that the caches
	// do not have it after all.
	Fetch(ctx context.Context, id oci.DiffID) error
}

// NewImportedCache looks in caches, whose layers come from layers.
func NewImportedCache(caches []*CacheConfig, layers ImportedLayers) *ImportedCache {
	c := &ImportedCache{
		entries: map[graph.Key]graph.Exported{}, aliases: map[graph.Key]graph.Key{},
		layers: layers, fetching: map[oci.DiffID]*sync.Mutex{},
	}
	for _, doc := range caches {
		for _, e := range doc.Entries {
			if _, ok := c.entries[e.Key]; ok {
				continue
			}
			c.entries[e.Key] = e
			if e.Alias != "" && c.aliases[e.Alias] == "" {
				c.aliases[e.Alias] = e.Key
			}
		}
	}
	return c
}

// Find is graph.Remote's.
func (c *ImportedCache) Find(key graph.Key) (graph.Exported, bool) {
	e, ok := c.entries[key]
	return e, ok
}

// Alias is graph.Remote's.
func (c *ImportedCache) Alias(full graph.Key) graph.Key { return c.aliases[full] }

// Fetch is graph.Remote's. Nothing is fetched of a result that cannot be had whole.
func (c *ImportedCache) Fetch(ctx context.Context, result json.RawMessage) (bool, error) {
	s, err := decodeState(result)
	if err != nil {
		return false, nil
	}
	for _, id := range s.Layers {
		if !c.layers.Has(id) {
			return false, nil
		}
	}
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(3)
	for _, id := range s.Layers {
		group.Go(func() error {
			lock := c.lock(id)
			defer lock.Unlock()
			return c.layers.Fetch(gctx, id)
		})
	}
	err = group.Wait()
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	return err == nil, nil
}

// lock sees that a layer that two steps need is fetched once.
func (c *ImportedCache) lock(id oci.DiffID) *sync.Mutex {
	c.mu.Lock()
	m := c.fetching[id]
	if m == nil {
		m = &sync.Mutex{}
		c.fetching[id] = m
	}
	c.mu.Unlock()
	m.Lock()
	return m
}

// IsCacheManifest reports whether the manifest carries a build cache, of whatever version.
func IsCacheManifest(m *ocispec.Manifest) bool {
	return strings.HasPrefix(m.Config.MediaType, "application/vnd.strata.build.cache.")
}

// ExportLayers are the layers that the entries' results name, each once, inputs before their users, without those in less.
func ExportLayers(entries []graph.Exported, less map[oci.DiffID]bool) []oci.DiffID {
	var ids []oci.DiffID
	seen := map[oci.DiffID]bool{}
	for _, e := range entries {
		for _, id := range ResultLayers(e.Result) {
			if !seen[id] && !less[id] {
				seen[id] = true
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// BaseLayers are the layers of the images that the plan's stages begin with: who builds the same has them.
func (p *Plan) BaseLayers() map[oci.DiffID]bool {
	base := map[oci.DiffID]bool{}
	for _, s := range p.Stages {
		if s.Base == nil {
			continue
		}
		for _, id := range s.Base.Layers {
			base[id] = true
		}
	}
	return base
}
