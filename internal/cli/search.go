package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"strata/internal/cli/render"
	"strata/internal/engine"
	"strata/internal/remote"
)

// search opens no store: it asks the registry only.
func (a *app) search() *cobra.Command {
	var o engine.SearchOptions
	var noTrunc bool
	var format string
	var filters []string
	cmd := &cobra.Command{
		Use:   "search [OPTIONS] TERM",
		Short: "Search a registry for images: docker.io, or REGISTRY/TERM",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := searchFilters(&o, filters); err != nil {
				return err
			}
			in := remote.New(remote.Options{UserAgent: "strata/" + Version})
			found, err := engine.Search(cmd.Context(), in, args[0], o)
			if err != nil {
				return err
			}
			return render.Rows(a.out, render.List{Format: format, Columns: render.SearchColumns()}, searchRows(found, noTrunc))
		},
	}
	fl := cmd.Flags()
	fl.IntVar(&o.Limit, "limit", 0, "show at most this many (25 unless given)")
	fl.BoolVar(&noTrunc, "no-trunc", false, "show whole descriptions")
	fl.StringVar(&format, "format", "", "print with a template, or json")
	filterVar(cmd, &filters, "f", "show only repositories for which it holds: is-official= stars=")
	return cmd
}

// searchFilters reads docker's filters of search.
func searchFilters(o *engine.SearchOptions, exprs []string) error {
	for _, expr := range exprs {
		key, value, _ := strings.Cut(expr, "=")
		var err error
		var yes bool
		switch strings.TrimSpace(key) {
		case "is-official":
			yes, err = strconv.ParseBool(value)
			o.Official = &yes
		case "is-automated":
			yes, err = strconv.ParseBool(value)
			o.Automated = &yes
		case "stars":
			o.Stars, err = strconv.Atoi(value)
		default:
			return fmt.Errorf("--filter %q: no such filter: is-official, is-automated or stars", key)
		}
		if err != nil {
			return fmt.Errorf("invalid filter '%s=%s'", key, value)
		}
	}
	return nil
}

func searchRows(found []remote.Found, noTrunc bool) []render.SearchRow {
	mark := func(yes bool) string {
		if yes {
			return "[OK]"
		}
		return ""
	}
	rows := make([]render.SearchRow, len(found))
	for i, f := range found {
		text := strings.NewReplacer("\r", " ", "\n", " ").Replace(f.Description)
		rows[i] = render.SearchRow{
			Name: f.Name, Description: render.Text(text, 45, noTrunc), StarCount: strconv.Itoa(f.Stars),
			IsOfficial: mark(f.Official), IsAutomated: mark(f.Automated),
		}
	}
	return rows
}
