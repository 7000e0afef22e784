package base

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"strata/internal/beside"
	"strata/internal/errdef"
	"strata/internal/oci"
)

// Domain is where the bases seem to be: no registry has that name.
const Domain = "strata.internal"

// Names of the bases.
const (
	Static  = Domain + "/static"
	Toolbox = Domain + "/toolbox"
)

// program is the helper that has all that bases are made of.
const program = "strata-toolbox"

// Names lists the bases.
func Names() []string { return []string{Static, Toolbox} }

// Is reports whether name, with or without the tag latest, is that of a base.
func Is(name string) bool { return Layers(name) != nil }

// Layers are the names of a base's layers, lowest first, for [Source.Tar]; nil if there is no such base.
func Layers(name string) []string {
	switch strings.TrimSuffix(name, ":latest") {
	case Static:
		return []string{"static"}
	case Toolbox:
		return []string{"static", "toolbox"}
	}
	return nil
}

// Config is the configuration of a base's image, all but the diffIDs of its layers. It is the same every time.
func Config(name string) (*oci.Image, error) {
	layers := Layers(name)
	if layers == nil {
		return nil, fmt.Errorf("base %q: %w", name, errdef.ErrNotFound)
	}
	created := time.Unix(0, 0).UTC()
	host := oci.Host()
	img := &oci.Image{
		Created: &created, Architecture: host.Architecture, Variant: host.Variant, OS: host.OS,
		Config: oci.Config{
			Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		},
		RootFS: oci.RootFS{Type: "layers"},
	}
	for _, layer := range layers {
		img.History = append(img.History, oci.History{Created: &created, CreatedBy: program + " --base " + layer, Comment: "built into strata"})
	}
	if len(layers) > 1 {
		img.Config.Cmd = []string{"/bin/sh"}
	}
	return img, nil
}

// Source is the helper program that the layers come from.
type Source struct {
	Program string // its path
}

// Find looks for the helper beside this program and in ../libexec/strata.
func Find() (Source, error) {
	exe, err := os.Executable()
	if err != nil {
		return Source{}, fmt.Errorf("built-in bases: %w", err)
	}
	return FindBeside(filepath.Dir(exe))
}

// FindBeside is [Find] for a program in the directory dir.
func FindBeside(dir string) (Source, error) {
	if path := beside.In(dir, program); path != "" {
		return Source{path}, nil
	}
	err := fmt.Errorf("the built-in bases need %s beside strata in %q: %w", program, dir, errdef.ErrUnavailable)
	return Source{}, errdef.WithHint(err, "make bin/"+program)
}

// Key is a cheap identity of the helper: while it stays, so do the layers.
func (s Source) Key() (string, error) {
	var st unix.Stat_t
	if err := unix.Stat(s.Program, &st); err != nil {
		return "", fmt.Errorf("%s: %w", s.Program, err)
	}
	return fmt.Sprintf("%d-%d-%d-%d.%09d-%d.%09d", st.Dev, st.Ino, st.Size, st.Mtim.Sec, st.Mtim.Nsec, st.Ctim.Sec, st.Ctim.Nsec), nil
}

// Tar writes the uncompressed tar of a layer to w.
func (s Source) Tar(ctx context.Context, layer string, w io.Writer) error {
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, s.Program, "--base", layer)
	cmd.Stdout, cmd.Stderr = w, &said
	cmd.Env = []string{} // nothing around may change what comes out
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		text, _, _ := strings.Cut(strings.TrimSpace(said.String()), "\n")
		return fmt.Errorf("layer %q of the built-in bases: %.300s: %w", layer, text, err)
	}
	return nil
}
