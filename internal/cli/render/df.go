package render

import (
	"fmt"
	"io"
)

// DiskUsage is all that `system df -v` lists.
type DiskUsage struct {
	Images     []ImageRow
	Containers []ContainerRow
	Volumes    []VolumeUsageRow
	BuildCache []CacheRow
	Layers     []LayerRow
	Logs       []LogRow

	// CacheSize is what the build cache takes and no image shares.
	CacheSize string `json:"-"`
}

// VolumeUsageRow is a volume in `system df -v`.
type VolumeUsageRow struct {
	Anonymous  string
	Driver     string
	Links      string // how many containers have it
	Mountpoint string
	Name       string `heading:"VOLUME NAME"`
	Size       string
}

// CacheRow is an entry of the build cache in `system df -v`. How often it was used is not kept.
type CacheRow struct {
	CacheType     string
	CreatedSince  string `heading:"CREATED"` // [Ago]
	Description   string
	ID            string `heading:"CACHE ID"`
	InUse         string
	LastUsedSince string `heading:"LAST USED"` // [Ago]
	Shared        string
	Size          string
	UsageCount    string `heading:"USAGE"`
}

// LayerRow is a layer in `system df -v`.
type LayerRow struct {
	BlobSize   string `heading:"COMPRESSED"` // what its compressed forms take that are kept
	Cached     string // whether the build cache has it
	Containers string
	Form       string
	ID         string `heading:"LAYER ID"`
	Images     string
	Size       string
}

// LogRow is a container's log in `system df -v`.
type LogRow struct {
	ID    string `heading:"CONTAINER ID"`
	Names string
	Size  string
}

// DiskUsageText prints u as docker does, a table for each kind, and after those what docker does not tell.
func DiskUsageText(w io.Writer, u DiskUsage) error {
	fmt.Fprint(w, "Images space usage:\n\n")
	err := Rows(w, List{Columns: []string{"Repository", "Tag", "ID", "CreatedSince", "VirtualSize", "SharedSize", "UniqueSize", "Containers"}}, u.Images)
	if err != nil {
		return err
	}
	fmt.Fprint(w, "\nContainers space usage:\n\n")
	err = Rows(w, List{Columns: []string{"ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names"}}, u.Containers)
	if err != nil {
		return err
	}
	fmt.Fprint(w, "\nLocal Volumes space usage:\n\n")
	if err := Rows(w, List{Columns: []string{"Name", "Links", "Size"}}, u.Volumes); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nBuild cache usage: %s\n\n", u.CacheSize)
	err = Rows(w, List{Columns: []string{"ID", "CacheType", "Size", "CreatedSince", "LastUsedSince", "UsageCount", "Shared"}}, u.BuildCache)
	if err != nil {
		return err
	}
	fmt.Fprint(w, "\nLayers space usage:\n\n")
	if err := Rows(w, List{Columns: []string{"ID", "Form", "Size", "BlobSize", "Images", "Containers", "Cached"}}, u.Layers); err != nil {
		return err
	}
	fmt.Fprint(w, "\nContainer logs space usage:\n\n")
	return Rows(w, List{Columns: []string{"ID", "Names", "Size"}}, u.Logs)
}
