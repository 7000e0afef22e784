package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"strata/internal/cli/render"
	"strata/internal/container"
	"strata/internal/engine"
)

func (a *app) systemDf() *cobra.Command {
	var verbose bool
	var format string
	cmd := &cobra.Command{
		Use:   "df [OPTIONS]",
		Short: "Show what takes how much space",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				usage, err := e.DiskUsage(cmd.Context())
				if err != nil {
					return err
				}
				if !verbose {
					return render.Rows(a.out, render.List{Format: format, Columns: render.DiskUsageColumns()}, kindRows(usage.Kinds))
				}
				doc, err := usageDocument(e, usage, format != "" && format != "table")
				if err != nil {
					return err
				}
				if format == "" || format == "table" {
					return render.DiskUsageText(a.out, doc)
				}
				return render.Document(a.out, format, doc)
			})
		},
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "list each image, container, volume and entry of the build cache")
	cmd.Flags().StringVar(&format, "format", "", "print with a template, or json")
	return cmd
}

func kindRows(kinds []engine.Usage) []render.DiskUsageRow {
	rows := make([]render.DiskUsageRow, len(kinds))
	for i, u := range kinds {
		rows[i] = render.DiskUsageRow{
			Type: u.Type, TotalCount: fmt.Sprint(u.Total), Active: fmt.Sprint(u.Active),
			Size: render.HumanSize(u.Size), Reclaimable: render.Reclaimable(u.Reclaimable, u.Size),
		}
	}
	return rows
}

// usageDocument is all that `df -v` lists; whole says that ids and commands are not cut.
func usageDocument(e *engine.Engine, usage engine.DiskUsage, whole bool) (render.DiskUsage, error) {
	doc := render.DiskUsage{Images: usedImages(usage.Images, whole)}
	s, err := e.Containers()
	if err != nil {
		return doc, err
	}
	for _, u := range usage.Containers {
		row := containerRow(u.Record, whole)
		row.Size = render.HumanSizePrecision(u.Size, 3)
		doc.Containers = append(doc.Containers, row)
		doc.Logs = append(doc.Logs, render.LogRow{ID: row.ID, Names: row.Names, Size: render.HumanSizePrecision(u.Log, 3)})
	}
	for _, l := range usage.Layers {
		doc.Layers = append(doc.Layers, render.LayerRow{
			ID: render.ID(string(l.ID), whole), Form: l.Form, Size: render.HumanSizePrecision(l.Size, 3), BlobSize: render.HumanSizePrecision(l.Blobs, 3),
			Images: fmt.Sprint(l.Images), Containers: fmt.Sprint(l.Containers), Cached: fmt.Sprint(l.Cached),
		})
	}
	doc.Volumes = usedVolumes(s, usage.Volumes)
	var cache int64
	for _, kind := range usage.Kinds {
		if kind.Type == "Build Cache" {
			cache = kind.Size
		}
	}
	doc.BuildCache, doc.CacheSize = usedCache(usage.Cache, whole), render.HumanSize(cache)
	return doc, nil
}

func usedImages(images []engine.ImageUsage, whole bool) []render.ImageRow {
	var rows []render.ImageRow
	for _, u := range images {
		repo, tag := "<none>", "<none>"
		if len(u.Image.Tags) > 0 {
			repo, tag = splitTag(u.Image.Tags[0])
		}
		size := render.HumanSizePrecision(u.Shared+u.Unique, 3)
		rows = append(rows, render.ImageRow{
			Repository: repo, Tag: tag, ID: render.ID(u.Image.ID.String(), whole), CreatedAt: render.Stamp(created(u.Image)),
			CreatedSince: render.Ago(created(u.Image), time.Now()), Digest: "<none>", Size: size, VirtualSize: size,
			SharedSize: render.HumanSizePrecision(u.Shared, 3), UniqueSize: render.HumanSizePrecision(u.Unique, 3), Containers: fmt.Sprint(u.Containers),
		})
	}
	return rows
}

func usedVolumes(s *container.Store, volumes []container.VolumeUsage) []render.VolumeUsageRow {
	var rows []render.VolumeUsageRow
	for _, v := range volumes {
		rows = append(rows, render.VolumeUsageRow{
			Name: v.Name, Links: fmt.Sprint(v.Links), Size: render.HumanSizePrecision(v.Size, 3), Driver: "local",
			Mountpoint: s.VolumePath(v.Name), Anonymous: fmt.Sprint(v.Anonymous),
		})
	}
	return rows
}

func usedCache(entries []engine.CacheUsage, whole bool) []render.CacheRow {
	var rows []render.CacheRow
	now := time.Now()
	for _, u := range entries {
		rows = append(rows, render.CacheRow{
			ID: render.ID(u.ID, whole), CacheType: u.Type, Description: u.Description, Size: render.HumanSizePrecision(u.Size, 3),
			CreatedSince: render.Ago(u.Created, now), LastUsedSince: render.Ago(u.LastUsed, now),
			Shared: fmt.Sprint(u.Shared), InUse: fmt.Sprint(u.Shared), UsageCount: "N/A",
		})
	}
	return rows
}
