package image

import (
	"fmt"
	"slices"
	"time"

	"strata/internal/oci"
	"strata/internal/parallel"
)

// HistoryRow is one row of `history`, as docker shows it.
type HistoryRow struct {
	// ID is the image's id on the newest row and "<missing>" on the others: the images in between are not kept.
	ID string
	// Created is zero when the history does not say.
	Created   time.Time
	CreatedBy string
	// Size is what the files of the row's layer have, in bytes.
	Size    int64
	Comment string
	// Empty: the step made no layer.
	Empty bool
	// DiffID of the row's layer, "" when it is empty or the history names more layers than there are.
	DiffID oci.DiffID
}

// History gives the rows of an image, newest first. Histories are only what somebody wrote: layers that none of its
// entries accounts for get rows without text, entries beyond the last layer get no size.
func (s *Store) History(img Image) ([]HistoryRow, error) {
	var rows []HistoryRow
	layers := img.DiffIDs()
	for _, h := range img.Config.History {
		row := HistoryRow{ID: "<missing>", CreatedBy: h.CreatedBy, Comment: h.Comment, Empty: h.EmptyLayer}
		if h.Created != nil {
			row.Created = *h.Created
		}
		if !h.EmptyLayer && len(layers) > 0 {
			row.DiffID, layers = layers[0], layers[1:]
		}
		rows = append(rows, row)
	}
	for _, l := range layers {
		rows = append(rows, HistoryRow{ID: "<missing>", DiffID: l})
	}
	for i := range rows {
		if rows[i].DiffID == "" {
			continue
		}
		meta, err := s.Layers.Stat(rows[i].DiffID)
		if err != nil {
			return nil, broken(img.ID, fmt.Errorf("layer %s: %w", rows[i].DiffID, err))
		}
		rows[i].Size = meta.Shown()
	}
	slices.Reverse(rows)
	if len(rows) > 0 {
		rows[0].ID = string(img.ID)
	}
	return rows, nil
}

// Sizes is [Store.Size] of many images, read side by side.
func (s *Store) Sizes(images []Image) ([]int64, error) {
	sizes := make([]int64, len(images))
	return sizes, parallel.Each(len(images), func(i int) (err error) {
		sizes[i], err = s.Size(images[i])
		return err
	})
}

// Size is what the files of the image's layers have, in bytes, whether shared with other images or not. Where the record says it, no
// layer is asked.
func (s *Store) Size(img Image) (int64, error) {
	if img.Size > 0 {
		return img.Size, nil
	}
	var sum int64
	for _, l := range img.DiffIDs() {
		meta, err := s.Layers.Stat(l)
		if err != nil {
			return sum, broken(img.ID, fmt.Errorf("layer %s: %w", l, err))
		}
		sum += meta.Shown()
	}
	return sum, nil
}
