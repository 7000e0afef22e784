package render

import (
	"fmt"
	"io"
)

// Version is docker's version document.
type Version struct {
	Client ClientVersion
	Server ServerVersion
}

// ClientVersion is the part of the command line.
type ClientVersion struct {
	Platform          Platform
	Version           string
	APIVersion        string `json:"ApiVersion"`
	DefaultAPIVersion string
	GitCommit         string
	GoVersion         string
	Os                string
	Arch              string
	BuildTime         string
	Context           string
}

// ServerVersion is the part of the engine.
type ServerVersion struct {
	Platform      Platform
	Components    []Component
	Version       string
	APIVersion    string `json:"ApiVersion"`
	MinAPIVersion string
	GitCommit     string
	GoVersion     string
	Os            string
	Arch          string
	KernelVersion string
	Experimental  bool `json:",omitempty"`
	BuildTime     string
}

// Platform names a product.
type Platform struct{ Name string }

// Component is a program that the engine uses.
type Component struct {
	Name    string
	Version string
	Details map[string]string `json:",omitempty"`
}

// VersionText prints v in docker's layout.
func VersionText(w io.Writer, v Version) error {
	c, s := v.Client, v.Server
	text := fmt.Sprintf("Client: %s\n", c.Platform.Name) + versionLines(" ", c.Version, c.GoVersion, c.GitCommit, c.Os, c.Arch) +
		fmt.Sprintf("\nServer: %s\n Engine:\n", s.Platform.Name) + versionLines("  ", s.Version, s.GoVersion, s.GitCommit, s.Os, s.Arch)
	_, err := io.WriteString(w, text)
	return err
}

func versionLines(indent, version, goVersion, commit, os, arch string) string {
	line := func(name, value string) string { return fmt.Sprintf("%-20s%s\n", indent+name+":", value) }
	text := line("Version", version) + line("Go version", goVersion)
	if commit != "" {
		text += line("Git commit", commit)
	}
	return text + line("OS/Arch", os+"/"+arch)
}
