package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"strata/internal/cli/render"
	"strata/internal/config"
	"strata/internal/engine"
	"strata/internal/errdef"
	"strata/internal/image"
	"strata/internal/reference"
)

func (a *app) images() *cobra.Command {
	var all, digests, noTrunc, quiet bool
	var format string
	var filters []string
	cmd := &cobra.Command{
		Use:   "images [OPTIONS] [REPOSITORY[:TAG]]",
		Short: "List images",
		Args:  between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				filters = append(filters, "reference="+args[0])
			}
			var err error
			if format, err = a.format(format, quiet, func(d config.Docker) string { return d.ImagesFormat }); err != nil {
				return err
			}
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				rows, err := imageRows(cmd, e, filters, noTrunc)
				if err != nil {
					return err
				}
				list := render.List{Format: format, Columns: render.ImageColumns(digests), Quiet: quiet}
				if len(rows) == 0 && len(args) == 1 {
					a.hintVerb(cmd, args[0])
				}
				return render.Rows(a.out, list, rows)
			})
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&all, "all", "a", false, "show all images (none are hidden: steps of a build are no images here)")
	fl.BoolVar(&digests, "digests", false, "show digests")
	fl.BoolVar(&noTrunc, "no-trunc", false, "show whole ids")
	fl.BoolVarP(&quiet, "quiet", "q", false, "show ids only")
	fl.StringVar(&format, "format", "", "print with a template, or json")
	filterVar(cmd, &filters, "f", "show only images for which it holds: dangling= label= before= since= reference= until=")
	return cmd
}

// imageRows has a row for each tag of each image that passes, newest first; an image without a tag has one row.
func imageRows(cmd *cobra.Command, e *engine.Engine, filters []string, noTrunc bool) ([]render.ImageRow, error) {
	ctx := cmd.Context()
	filter, err := e.Images().ParseFilter(ctx, filters)
	if err != nil {
		return nil, err
	}
	images, listed := e.Images().Brief(ctx)
	images = filter.Apply(images)
	sizes, err := e.Images().Sizes(images)
	if err != nil {
		return nil, err
	}
	var rows []render.ImageRow
	now := time.Now()
	for i, img := range images {
		size := sizes[i]
		row := render.ImageRow{
			ID: render.ID(img.ID.String(), noTrunc), CreatedAt: render.Stamp(created(img)), CreatedSince: render.Ago(created(img), now),
			Size: render.HumanSizePrecision(size, 3), VirtualSize: render.HumanSizePrecision(size, 3),
			SharedSize: "N/A", UniqueSize: "N/A", Containers: "N/A", Digest: "<none>",
		}
		if img.Foreign {
			row.Digest = img.Record.Manifest.Digest.String()
		}
		for _, tag := range img.Tags {
			named := row
			if ref, err := reference.Parse(tag); err == nil {
				named.Repository, named.Tag = ref.FamiliarName(), ref.Tag
			}
			rows = append(rows, named)
		}
		if len(img.Tags) == 0 {
			row.Repository, row.Tag = "<none>", "<none>"
			rows = append(rows, row)
		}
	}
	// An image that cannot be read is left out and named; the others are shown all the same.
	if listed != nil {
		render.Error(cmd.ErrOrStderr(), listed)
	}
	return rows, nil
}

// created is when the image was made by its own account; docker shows that, and the store's time where there is none.
func created(img image.Image) time.Time {
	if img.Config != nil && img.Config.Created != nil && img.Config.Created.Unix() > 0 {
		return *img.Config.Created
	}
	return img.Created
}

func (a *app) tag() *cobra.Command {
	return &cobra.Command{
		Use:   "tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
		Short: "Give an image a further name",
		Args:  exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				return e.Tag(cmd.Context(), args[0], args[1])
			})
		},
	}
}

func (a *app) rmi() *cobra.Command {
	var o engine.RemoveImageOptions
	cmd := &cobra.Command{
		Use:   "rmi [OPTIONS] IMAGE [IMAGE...]",
		Short: "Remove images",
		Args:  atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				done, err := e.RemoveImages(cmd.Context(), args, o)
				a.printDeleted(done)
				if o.Force && errors.Is(err, errdef.ErrNotFound) {
					render.Error(a.err, err) // it promises only that they are gone
					return nil
				}
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&o.Force, "force", "f", false, "remove even if the image has several names or a stopped container")
	cmd.Flags().BoolVar(&o.NoPrune, "no-prune", false, "do not remove untagged parents")
	return cmd
}

func (a *app) printDeleted(done []image.Deleted) {
	for _, d := range done {
		if d.Untagged != "" {
			fmt.Fprintln(a.out, "Untagged:", d.Untagged)
		} else {
			fmt.Fprintln(a.out, "Deleted:", d.Deleted)
		}
	}
}

func (a *app) history() *cobra.Command {
	var human, noTrunc, quiet bool
	var format string
	cmd := &cobra.Command{
		Use:   "history [OPTIONS] IMAGE",
		Short: "Show how an image came to be, and what each step costs",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				img, err := e.Resolve(cmd.Context(), args[0], engine.PullNever)
				if err != nil {
					return err
				}
				entries, err := e.Images().History(img)
				if err != nil {
					return err
				}
				rows := make([]render.HistoryRow, len(entries))
				for i, h := range entries {
					rows[i] = historyRow(h, human, noTrunc)
				}
				list := render.List{Format: format, Columns: render.HistoryColumns(human), Quiet: quiet}
				return render.Rows(a.out, list, rows)
			})
		},
	}
	fl := cmd.Flags()
	fl.BoolVarP(&human, "human", "H", true, "show sizes and times for people")
	fl.BoolVar(&noTrunc, "no-trunc", false, "show whole ids and commands")
	fl.BoolVarP(&quiet, "quiet", "q", false, "show ids only")
	fl.StringVar(&format, "format", "", "print with a template, or json")
	return cmd
}

func historyRow(h image.HistoryRow, human, noTrunc bool) render.HistoryRow {
	row := render.HistoryRow{
		ID: render.ID(h.ID, noTrunc), Comment: h.Comment, CreatedBy: render.Text(h.CreatedBy, 45, noTrunc),
		CreatedAt: h.Created.Format(time.RFC3339), CreatedSince: "N/A", Size: fmt.Sprint(h.Size),
	}
	if !h.Created.IsZero() {
		row.CreatedSince = render.Ago(h.Created, time.Now())
	}
	if human {
		row.Size = render.HumanSizePrecision(h.Size, 3)
	}
	return row
}
