package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"strata/internal/build"
	"strata/internal/cli/render"
	"strata/internal/engine"
)

func (a *app) builderCacheMount() *cobra.Command {
	return a.group("cache-mount", "Work with the directories of RUN --mount=type=cache",
		a.cacheMountLs(), a.cacheMountExport(), a.cacheMountImport(), a.cacheMountRm())
}

// cacheMountRow is a line of `builder cache-mount ls`.
type cacheMountRow struct {
	ID       string
	Tree     string
	Size     string
	LastUsed string `heading:"LAST USED"` // [render.Ago]
}

func (a *app) cacheMountLs() *cobra.Command {
	var quiet bool
	var format string
	cmd := &cobra.Command{
		Use:     "ls [OPTIONS]",
		Aliases: []string{"list"},
		Short:   "List cache mounts",
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				all, err := e.CacheMounts()
				if err != nil {
					return err
				}
				now := time.Now()
				rows := make([]cacheMountRow, len(all))
				for i, m := range all {
					rows[i] = cacheMountRow{ID: m.ID, Tree: m.Tree, Size: render.HumanSize(m.Size), LastUsed: render.Ago(m.LastUsed, now)}
				}
				return render.Rows(a.out, render.List{Format: format, Quiet: quiet, Columns: []string{"ID", "Tree", "Size", "LastUsed"}}, rows)
			})
		},
	}
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "show ids only")
	cmd.Flags().StringVar(&format, "format", "", "print with a template, or json")
	return cmd
}

func (a *app) cacheMountExport() *cobra.Command {
	return &cobra.Command{
		Use:   "export ID [FILE|-]",
		Short: "Write a cache mount's directory as a tar",
		Args:  between(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				return a.output(fileArgument(args), func(w io.Writer) error { return e.ExportCacheMount(cmd.Context(), args[0], w) })
			})
		},
	}
}

// fileArgument is the second of args; "" for the standard stream.
func fileArgument(args []string) string {
	if len(args) < 2 || args[1] == "-" {
		return ""
	}
	return args[1]
}

func (a *app) cacheMountImport() *cobra.Command {
	var o build.CacheOwner
	cmd := &cobra.Command{
		Use:   "import [OPTIONS] ID [FILE|-]",
		Short: "Fill a cache mount from a tar, instead of what is in it",
		Args:  between(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := fileArgument(args)
			if file == "" && term.IsTerminal(int(a.in.Fd())) {
				return usagef("requested import from a terminal: name a file, or redirect standard input")
			}
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				in := a.in
				if file != "" {
					f, err := os.Open(file)
					if err != nil {
						return err
					}
					defer f.Close()
					in = f
				}
				if err := e.ImportCacheMount(cmd.Context(), args[0], in, o); err != nil {
					return err
				}
				_, err := fmt.Fprintln(a.out, args[0])
				return err
			})
		},
	}
	cmd.Flags().Var(idFlag{&o.UID, 10}, "uid", "of a new one: the uid that the mount has in the Dockerfile")
	cmd.Flags().Var(idFlag{&o.GID, 10}, "gid", "of a new one: the gid")
	cmd.Flags().Var(idFlag{&o.Mode, 8}, "mode", "of a new one: the mode, octal")
	return cmd
}

func (a *app) cacheMountRm() *cobra.Command {
	return &cobra.Command{
		Use:     "rm ID [ID...]",
		Aliases: []string{"remove"},
		Short:   "Remove cache mounts",
		Args:    atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				var errs []error
				for _, id := range args {
					err := e.RemoveCacheMount(cmd.Context(), id)
					if err == nil {
						_, err = fmt.Fprintln(a.out, id)
					}
					errs = append(errs, err)
				}
				return errors.Join(errs...)
			})
		},
	}
}
