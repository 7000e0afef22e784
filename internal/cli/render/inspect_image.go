package render

import (
	"strata/internal/oci"
)

// ImageInspect is the document of `image inspect`. Times are RFC 3339 text; see [Time].
type ImageInspect struct {
	ID            string `json:"Id"`
	RepoTags      []string
	RepoDigests   []string
	Parent        string
	Comment       string
	Created       string
	DockerVersion string
	Author        string
	Config        *ImageConfig
	Architecture  string
	Variant       string `json:",omitempty"`
	Os            string
	OsVersion     string `json:",omitempty"`
	Size          int64
	GraphDriver   GraphDriver
	RootFS        ImageRootFS
	Metadata      ImageMetadata
	// Origins is no field of docker's: what the image was called, here and in registries.
	Origins []ImageOrigin
}

// ImageOrigin is a name of an image; Time and By are empty where only a registry's digest of it is known.
type ImageOrigin struct {
	Name     string
	Digest   string `json:",omitempty"`
	By       string `json:",omitempty"`
	Time     string `json:",omitempty"`
	Official bool
}

// ImageConfig is what a container of the image starts with. Unlike in the stored config, lists that are not set are shown
// (as null), because scripts ask for them.
type ImageConfig struct {
	User         string
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Env          []string
	Cmd          []string
	Healthcheck  *oci.Healthcheck `json:",omitempty"`
	ArgsEscaped  bool             `json:",omitempty"`
	Volumes      map[string]struct{}
	WorkingDir   string
	Entrypoint   []string
	OnBuild      []string
	Labels       map[string]string
	StopSignal   string   `json:",omitempty"`
	Shell        []string `json:",omitempty"`
}

// NewImageConfig shows c.
func NewImageConfig(c oci.Config) *ImageConfig {
	return &ImageConfig{
		User: c.User, ExposedPorts: c.ExposedPorts, Env: c.Env, Cmd: c.Cmd, Healthcheck: c.Healthcheck,
		ArgsEscaped: c.ArgsEscaped, Volumes: c.Volumes, WorkingDir: c.WorkingDir, Entrypoint: c.Entrypoint,
		OnBuild: c.OnBuild, Labels: c.Labels, StopSignal: c.StopSignal, Shell: c.Shell,
	}
}

// GraphDriver names what the layers are stored in, with what that can tell of them.
type GraphDriver struct {
	Data map[string]string
	Name string
}

// ImageRootFS lists the layers, base first.
type ImageRootFS struct {
	Type   string
	Layers []oci.DiffID `json:",omitempty"`
}

// ImageMetadata is local to this store.
type ImageMetadata struct {
	LastTagTime string
}
