package render

// VolumeRow is a line of `volume ls`.
type VolumeRow struct {
	Availability string
	Driver       string
	Group        string
	Labels       string // [Labels]
	Links        string
	Mountpoint   string
	Name         string `heading:"VOLUME NAME"`
	Scope        string
	Size         string
	Status       string

	// LabelValues answers {{.Label "name"}}.
	LabelValues map[string]string `json:"-"`
}

// Label is the value of one label, "" if the volume has none of that name.
func (r VolumeRow) Label(name string) string { return r.LabelValues[name] }

// VolumeColumns are the columns of the plain table.
func VolumeColumns() []string { return []string{"Driver", "Name"} }

// VolumeInspect is the document of `volume inspect`.
type VolumeInspect struct {
	CreatedAt  string
	Driver     string
	Labels     map[string]string
	Mountpoint string
	Name       string
	Options    map[string]string
	Scope      string
}
