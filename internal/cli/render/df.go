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

// DiskUsageText prints u as docker does: a table for each kind.
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
	return Rows(w, List{Columns: []string{"ID", "CacheType", "Size", "CreatedSince", "LastUsedSince", "UsageCount", "Shared"}}, u.BuildCache)
}
