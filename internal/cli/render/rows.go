package render

// The rows of docker's listings. Every field is text, ready to be shown; who fills a row cuts ids and texts with [ID] and
// [Text]. An unknown text is "<none>" in an ImageRow, "<missing>" for the id in a HistoryRow.

// ImageRow is a line of `images`.
type ImageRow struct {
	Containers   string
	CreatedAt    string // [Stamp]
	CreatedSince string `heading:"CREATED"` // [Ago]
	Digest       string
	ID           string `heading:"IMAGE ID"`
	Repository   string
	SharedSize   string
	Size         string // [HumanSizePrecision] 3
	Tag          string
	UniqueSize   string
	VirtualSize  string `heading:"SIZE"`
}

// ImageColumns are the columns of `images`; with digests, those of `images --digests`.
func ImageColumns(digests bool) []string {
	if digests {
		return []string{"Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"}
	}
	return []string{"Repository", "Tag", "ID", "CreatedSince", "Size"}
}

// ContainerRow is a line of `ps`.
type ContainerRow struct {
	Command      string // [Command]
	CreatedAt    string // [Stamp]
	ID           string `heading:"CONTAINER ID"`
	Image        string
	Labels       string // [Labels]
	LocalVolumes string
	Mounts       string
	Names        string
	Networks     string
	Ports        string
	RunningFor   string `heading:"CREATED"` // [Ago]
	Size         string // [ContainerSize]
	State        string
	Status       string // [ContainerState.Text]

	// LabelValues answers {{.Label "name"}}.
	LabelValues map[string]string `json:"-"`
}

// Label is the value of one label, "" if the container has none of that name.
func (r ContainerRow) Label(name string) string { return r.LabelValues[name] }

// ContainerColumns are the columns of `ps`; with size, those of `ps -s`.
func ContainerColumns(size bool) []string {
	columns := []string{"ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"}
	if size {
		columns = append(columns, "Size")
	}
	return columns
}

// HistoryRow is a line of `history`.
type HistoryRow struct {
	Comment      string
	CreatedAt    string // RFC 3339
	CreatedBy    string // [Text] of 45, tabs made spaces
	CreatedSince string `heading:"CREATED"` // [Ago]
	ID           string `heading:"IMAGE"`
	Size         string // [HumanSizePrecision] 3
}

// HistoryColumns are the columns of `history`; human is false for `history --human=false`.
func HistoryColumns(human bool) []string {
	if !human {
		return []string{"ID", "CreatedAt", "CreatedBy", "Size", "Comment"}
	}
	return []string{"ID", "CreatedSince", "CreatedBy", "Size", "Comment"}
}

// DiskUsageRow is a line of `system df`.
type DiskUsageRow struct {
	Active      string
	Reclaimable string // [Reclaimable]
	Size        string // [HumanSize]
	TotalCount  string `heading:"TOTAL"`
	Type        string
}

// DiskUsageColumns are the columns of `system df`.
func DiskUsageColumns() []string {
	return []string{"Type", "TotalCount", "Active", "Size", "Reclaimable"}
}

// SearchRow is a line of `search`.
type SearchRow struct {
	Description string // [Text] of 45
	IsAutomated string `heading:"AUTOMATED"`
	IsOfficial  string `heading:"OFFICIAL"` // "[OK]" or nothing
	Name        string
	StarCount   string `heading:"STARS"`
}

// SearchColumns are the columns of `search`.
func SearchColumns() []string { return []string{"Name", "Description", "StarCount", "IsOfficial"} }

// TagRow is a line of `tags ls`. Digest is what a registry has under the tag, or the index that the tag stands for here.
type TagRow struct {
	Cause  string `heading:"BY"`
	Digest string
	ID     string `heading:"IMAGE ID"`
	Moved  string // [Ago]
	Moves  string
	Tag    string
}

// TagColumns are the columns of `tags ls`: of what a registry has, or of what is here.
func TagColumns(remote, digests bool) []string {
	switch {
	case remote && digests:
		return []string{"Tag", "Digest"}
	case remote:
		return []string{"Tag"}
	case digests:
		return []string{"Tag", "ID", "Digest", "Moved", "Cause"}
	}
	return []string{"Tag", "ID", "Moved", "Cause"}
}

// TagEventRow is a line of `tags history`. State is "now", "before" (where undo leads), "here" or "gone".
type TagEventRow struct {
	At    string // [Stamp]
	Cause string `heading:"BY"`
	ID    string `heading:"IMAGE ID"`
	State string
	When  string // [Ago]
}

// TagEventColumns are the columns of `tags history`.
func TagEventColumns() []string { return []string{"ID", "When", "Cause", "State"} }
