package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"strata/internal/cli/render"
	"strata/internal/engine"
	"strata/internal/errdef"
	"strata/internal/image"
	"strata/internal/reference"
)

func (a *app) tags() *cobra.Command {
	return a.group("tags", "Work with the tags of a repository, here or in its registry", a.tagsHistory(), a.tagsLs(), a.tagsRm(), a.tagsUndo())
}

func (a *app) tagsLs() *cobra.Command {
	var atRegistry, digests, noTrunc, quiet bool
	var format string
	cmd := &cobra.Command{
		Use:     "ls [OPTIONS] REPOSITORY",
		Aliases: []string{"list"},
		Short:   "List tags, the highest version first",
		Args:    exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			list := render.List{Format: format, Columns: render.TagColumns(atRegistry, digests), Quiet: quiet, Key: "Tag"}
			if atRegistry {
				all, err := engine.RemoteTags(cmd.Context(), engine.Registries(), args[0], digests)
				if err != nil {
					return err
				}
				rows := make([]render.TagRow, len(all))
				for i, t := range all {
					rows[i] = render.TagRow{Tag: t.Tag, Digest: t.Digest.String()}
				}
				return render.Rows(a.out, list, rows)
			}
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				all, err := e.TagsIn(args[0])
				if err != nil {
					return err
				}
				rows := make([]render.TagRow, len(all))
				for i, t := range all {
					rows[i] = tagRow(t, noTrunc)
				}
				return render.Rows(a.out, list, rows)
			})
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&atRegistry, "remote", false, "list what the registry has")
	fl.BoolVar(&digests, "digests", false, "show what each tag stands for: with --remote, one request a tag")
	fl.BoolVar(&noTrunc, "no-trunc", false, "show whole ids")
	fl.BoolVarP(&quiet, "quiet", "q", false, "show tags only")
	fl.StringVar(&format, "format", "", "print with a template, or json")
	return cmd
}

func tagRow(t image.Tag, noTrunc bool) render.TagRow {
	row := render.TagRow{Tag: engine.TagOf(t.Name), ID: render.ID(t.Image.String(), noTrunc), Digest: t.Index.String(), Moved: "N/A", Cause: "", Moves: fmt.Sprint(len(t.History))}
	if n := len(t.History); n > 0 {
		row.Moved, row.Cause = render.Ago(t.History[n-1].Time, time.Now()), t.History[n-1].Cause
	}
	return row
}

func (a *app) tagsHistory() *cobra.Command {
	var noTrunc bool
	var format string
	cmd := &cobra.Command{
		Use:   "history [OPTIONS] NAME[:TAG]",
		Short: "Show what a tag stood for, and why that changed",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				t, err := e.Images().TagNamed(args[0])
				if err != nil {
					return err
				}
				return render.Rows(a.out, render.List{Format: format, Columns: render.TagEventColumns()}, a.tagEvents(cmd, e, t, noTrunc))
			})
		},
	}
	cmd.Flags().BoolVar(&noTrunc, "no-trunc", false, "show whole ids")
	cmd.Flags().StringVar(&format, "format", "", "print with a template, or json")
	return cmd
}

// tagEvents has a row for each move of a tag, the last one first.
func (a *app) tagEvents(cmd *cobra.Command, e *engine.Engine, t image.Tag, noTrunc bool) []render.TagEventRow {
	var rows []render.TagEventRow
	before, undoable := t.Before()
	for i := len(t.History) - 1; i >= 0; i-- {
		event := t.History[i]
		row := render.TagEventRow{
			ID: render.ID(event.Image.String(), noTrunc), When: render.Ago(event.Time, time.Now()), At: render.Stamp(event.Time), Cause: event.Cause, State: "here",
		}
		_, err := e.Images().Get(cmd.Context(), event.Image)
		switch {
		case i == len(t.History)-1:
			row.State = "now"
		case errors.Is(err, errdef.ErrNotFound):
			row.State = "gone"
		case undoable && event.Time.Equal(before.Time) && event.Image == before.Image:
			row.State = "before"
		}
		rows = append(rows, row)
	}
	return rows
}

func (a *app) tagsUndo() *cobra.Command {
	return &cobra.Command{
		Use:   "undo NAME[:TAG]",
		Short: "Point a tag to what it stood for before; again, to what was before that",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				t, err := e.UndoTag(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(a.out, "%s: %s\n", render.Clean(reference.Familiarize(t.Name)), t.Image)
				return err
			})
		},
	}
}

func (a *app) tagsRm() *cobra.Command {
	var atRegistry, force bool
	cmd := &cobra.Command{
		Use:     "rm [OPTIONS] NAME:TAG [NAME:TAG...]",
		Aliases: []string{"remove"},
		Short:   "Take tags away; the images stay",
		Args:    atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if force && !atRegistry {
				return usagef("--force is for --remote")
			}
			if atRegistry {
				c := engine.Registries()
				return a.eachTag(args, func(name string) error { return engine.RemoveRemoteTag(cmd.Context(), c, name, force) })
			}
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				return a.eachTag(args, func(name string) error { return e.RemoveTag(cmd.Context(), name) })
			})
		},
	}
	cmd.Flags().BoolVar(&atRegistry, "remote", false, "in the registry")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "with --remote: remove the image with all its tags where the registry removes no single one")
	return cmd
}

// eachTag goes as far as it can, and says what is done.
func (a *app) eachTag(names []string, remove func(name string) error) error {
	var failed []error
	for _, name := range names {
		if err := remove(name); err != nil {
			failed = append(failed, err)
			continue
		}
		fmt.Fprintln(a.out, "Untagged:", render.Clean(familiar(name)))
	}
	return errors.Join(failed...)
}
