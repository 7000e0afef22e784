package cli

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"strata/internal/cli/render"
	"strata/internal/config"
	"strata/internal/engine"
	"strata/internal/errdef"
)

// cacheCap is the bound on the build cache that STRATA_BUILD_CACHE_MAX sets, else strata.toml: a size, a part of the disk
// ("20%"), or "none".
func cacheCap() (engine.CacheCap, error) {
	const name = "STRATA_BUILD_CACHE_MAX"
	if value := os.Getenv(name); value != "" {
		limit, err := engine.ParseCap(value)
		if err != nil {
			err = usagef("%s=%q: %w", name, value, err)
		}
		return limit, err
	}
	c, err := config.Load()
	if err != nil {
		return engine.CacheCap{}, err
	}
	limit, err := engine.ParseCap(c.Store.BuildCacheMax)
	return limit, c.Fault("store.build-cache-max", err)
}

// cacheRow is a line of `builder du`.
type cacheRow struct {
	ID          string
	Reclaimable string
	Size        string
	LastUsed    string `heading:"LAST ACCESSED"` // [render.Ago]
	Type        string
	Description string
}

func (a *app) builderDu() *cobra.Command {
	var filters []string
	var verbose bool
	var format string
	cmd := &cobra.Command{
		Use:   "du [OPTIONS]",
		Short: "List the build cache and what it takes",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				all, err := e.CacheEntries(cmd.Context(), filters)
				if err != nil {
					return err
				}
				switch {
				case format != "":
					return a.cacheTable(all, format)
				case verbose:
					a.cacheBlocks(all)
				default:
					if err := a.cacheTable(all, ""); err != nil {
						return err
					}
				}
				return a.cacheSums(all)
			})
		},
	}
	filterVar(cmd, &filters, "", "only those for which it holds: until=24h, type=, id=, description~=, shared=")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "tell more of each entry")
	cmd.Flags().StringVar(&format, "format", "", "print with a template, or json")
	return cmd
}

// cacheID is the part of an id that a filter takes.
func cacheID(u engine.CacheUsage) string {
	if len(u.ID) == 64 {
		return u.ID[:24]
	}
	return u.ID
}

func (a *app) cacheTable(all []engine.CacheUsage, format string) error {
	now := time.Now()
	rows := make([]cacheRow, len(all))
	for i, u := range all {
		rows[i] = cacheRow{
			ID: cacheID(u), Reclaimable: strconv.FormatBool(!u.Shared), Size: render.HumanSize(u.Size),
			LastUsed: render.Ago(u.LastUsed, now), Type: u.Type, Description: render.Clean(u.Description),
		}
	}
	return render.Rows(a.out, render.List{Format: format, Columns: []string{"ID", "Reclaimable", "Size", "LastUsed", "Type", "Description"}}, rows)
}

// cacheBlocks prints each entry as buildx does.
func (a *app) cacheBlocks(all []engine.CacheUsage) {
	now := time.Now()
	w := tabwriter.NewWriter(a.out, 0, 8, 1, '\t', 0)
	for _, u := range all {
		fmt.Fprintf(w, "ID:\t%s\nCreated at:\t%s\nMutable:\t%t\nReclaimable:\t%t\nShared:\t%t\nSize:\t%s\nDescription:\t%s\nLast used:\t%s\nType:\t%s\n\n",
			u.ID, u.Created.UTC().Format(time.RFC3339), u.Type != "regular", !u.Shared, u.Shared, render.HumanSize(u.Size),
			render.Clean(u.Description), render.Ago(u.LastUsed, now), u.Type)
	}
	w.Flush()
}

func (a *app) cacheSums(all []engine.CacheUsage) error {
	var total, shared int64
	for _, u := range all {
		total += u.Size
		if u.Shared {
			shared += u.Size
		}
	}
	w := tabwriter.NewWriter(a.out, 0, 8, 1, '\t', 0)
	if shared > 0 {
		fmt.Fprintf(w, "Shared:\t%s\nPrivate:\t%s\n", render.HumanSize(shared), render.HumanSize(total-shared))
	}
	fmt.Fprintf(w, "Reclaimable:\t%s\nTotal:\t%s\n", render.HumanSize(total-shared), render.HumanSize(total))
	return w.Flush()
}

// idFlag is a number that may be missing.
type idFlag struct {
	to   **uint32
	base int
}

func (f idFlag) String() string { return "" }

func (f idFlag) Type() string { return "number" }

func (f idFlag) Set(s string) error {
	n, err := strconv.ParseUint(s, f.base, 32)
	if err != nil || n > math.MaxUint32 || f.base == 8 && n > 0o7777 {
		return fmt.Errorf("%q: want a number: %w", s, errdef.ErrInvalid)
	}
	v := uint32(n)
	*f.to = &v
	return nil
}
