package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"strata/internal/atomicfile"
	"strata/internal/engine"
	"strata/internal/errdef"
	"strata/internal/oci"
	"strata/internal/reference"
)

// resultFlags are those flags of build that say what becomes of the image.
type resultFlags struct {
	outputs, annotations, platforms []string
	push, load                      bool
	metadata                        string
	// What docker's scripts pass and what means nothing here.
	rm, forceRm, compress bool
	isolation             string
	provenance, sbom      string
}

func (f *resultFlags) add(fl *pflag.FlagSet) {
	fl.StringArrayVarP(&f.outputs, "output", "o", nil, "write the result: DIR, - for a tar, or type=docker|oci|tar|local|registry|image,dest=…; may be given several times")
	fl.BoolVar(&f.push, "push", false, "push the image: --output type=registry")
	fl.BoolVar(&f.load, "load", false, "put the image into the store, where it always goes")
	fl.StringSliceVar(&f.platforms, "platform", nil, "build for OS/ARCH[/VARIANT]; several, separated by commas, make one image for all")
	fl.StringArrayVar(&f.annotations, "annotation", nil, "set an annotation: [manifest|index|manifest-descriptor:]KEY=VALUE")
	fl.StringVar(&f.metadata, "metadata-file", "", "write what was built to this file, as JSON")
	fl.BoolVar(&f.rm, "rm", true, "as docker's: steps leave no containers")
	fl.BoolVar(&f.forceRm, "force-rm", false, "as docker's: steps leave no containers")
	fl.BoolVar(&f.compress, "compress", false, "as docker's: the context is not sent anywhere")
	fl.StringVar(&f.isolation, "isolation", "default", "as docker's: default")
	fl.StringVar(&f.provenance, "provenance", "", "as docker's: false")
	fl.StringVar(&f.sbom, "sbom", "", "as docker's: false")
	fl.Lookup("provenance").NoOptDefVal, fl.Lookup("sbom").NoOptDefVal = "true", "true"
	for _, name := range []string{"rm", "force-rm", "compress", "isolation", "provenance", "sbom"} {
		fl.Lookup(name).Hidden = true
	}
}

// notes says of flags that docker has for its own ways what they do here.
func (a *app) buildNotes(cmd *cobra.Command) {
	notes := map[string]string{
		"rm":        "build steps leave no containers",
		"force-rm":  "build steps leave no containers",
		"compress":  "the build context is read where it is",
		"isolation": "build steps have one way to be isolated",
	}
	for _, name := range []string{"rm", "force-rm", "compress", "isolation"} {
		if f := cmd.Flags().Lookup(name); f != nil && f.Changed {
			fmt.Fprintf(a.err, "note: --%s changes nothing: %s\n", name, notes[name])
		}
	}
}

// into completes the options with what the flags say.
func (f *resultFlags) into(a *app, o *engine.BuildOptions) error {
	if f.isolation != "default" && f.isolation != "" {
		return usageError{errdef.WithHint(fmt.Errorf("--isolation %s: %w", f.isolation, errdef.ErrUnsupported), "leave it out")}
	}
	for name, value := range map[string]string{"provenance": f.provenance, "sbom": f.sbom} {
		if on, err := strconv.ParseBool(value); value != "" && (err != nil || on) {
			return usageError{errdef.WithHint(fmt.Errorf("flag --%s=%s of docker's build: %w yet", name, value, errdef.ErrUnsupported), "--"+name+"=false")}
		}
	}
	if err := f.targets(o); err != nil {
		return err
	}
	stdout := 0
	for _, text := range f.outputs {
		out, annotations, err := a.buildOutput(text)
		if err != nil {
			return err
		}
		if out.Dest == "-" {
			stdout++
		}
		if out.Type == engine.OutputImage && !out.Form.ByDigest {
			o.Tags = appendNew(o.Tags, out.Names...)
		}
		o.Outputs = append(o.Outputs, out)
		o.Annotations = append(o.Annotations, annotations...)
	}
	if stdout > 1 {
		return usagef("--output: only one output can go to standard output")
	}
	for _, text := range f.annotations {
		all, err := buildAnnotation(text)
		if err != nil {
			return err
		}
		o.Annotations = append(o.Annotations, all...)
	}
	f.pushed(o)
	return f.checkForms(o)
}

// checkForms refuses docker's media types where annotations would be lost by them.
func (f *resultFlags) checkForms(o *engine.BuildOptions) error {
	for _, out := range o.Outputs {
		if out.Form.DockerTypes && len(o.Annotations) > 0 {
			return usagef("--output oci-mediatypes=false: docker's manifests have no annotations")
		}
	}
	return nil
}

// pushed is --push: it makes the image outputs push, or is one of its own.
func (f *resultFlags) pushed(o *engine.BuildOptions) {
	if !f.push {
		return
	}
	found := false
	for i := range o.Outputs {
		if o.Outputs[i].Type == engine.OutputImage {
			o.Outputs[i].Push, found = true, true
		}
	}
	if !found {
		o.Outputs = append(o.Outputs, engine.Output{Type: engine.OutputImage, Push: true})
	}
}

// targets reads --platform, else DOCKER_DEFAULT_PLATFORM. "local" is this machine's.
func (f *resultFlags) targets(o *engine.BuildOptions) error {
	list := f.platforms
	if list == nil {
		if p := os.Getenv("DOCKER_DEFAULT_PLATFORM"); p != "" {
			list = strings.Split(p, ",")
		}
	}
	seen := map[string]bool{}
	for _, text := range list {
		p := oci.Host()
		if text = strings.TrimSpace(text); text != "local" {
			var err error
			if p, err = oci.ParsePlatform(text); err == nil && p.OS == "" {
				err = fmt.Errorf("platform %q: want OS/ARCH[/VARIANT]: %w", text, errdef.ErrInvalid)
			}
			if err != nil {
				return usageError{err}
			}
		}
		if !seen[oci.Format(p)] {
			seen[oci.Format(p)] = true
			o.Platforms = append(o.Platforms, p)
		}
	}
	return nil
}

func appendNew(list []string, more ...string) []string {
	for _, s := range more {
		if !slices.Contains(list, s) {
			list = append(list, s)
		}
	}
	return list
}

// writeMetadata writes --metadata-file with docker's keys.
func (f *resultFlags) writeMetadata(res engine.BuildResult) error {
	desc := res.Image.Record.Manifest
	doc := map[string]any{"buildx.build.ref": "default/default/" + res.Ref}
	if res.Index != nil {
		desc = res.Index.Descriptor
	} else {
		doc["containerimage.config.digest"] = res.Image.ID
	}
	if n := len(res.Pushed); n > 0 {
		last := res.Pushed[n-1]
		desc = ocispec.Descriptor{MediaType: last.MediaType, Digest: last.Digest, Size: last.Size}
	}
	doc["containerimage.digest"] = desc.Digest
	doc["containerimage.descriptor"] = desc
	names := res.Tags
	for _, p := range res.Pushed {
		names = appendNew(names, p.Name)
	}
	if len(names) > 0 {
		doc["image.name"] = strings.Join(names, ",")
	}
	raw, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Dir(f.metadata)); err != nil {
		return fmt.Errorf("--metadata-file: %w", err)
	}
	if err := atomicfile.Write(f.metadata, append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("--metadata-file: %w", err)
	}
	return nil
}

// pushedNames are the results of a push: each repository with its digest, once.
func pushedNames(res engine.BuildResult) []string {
	var names []string
	for _, p := range res.Pushed {
		name := p.Name
		if ref, err := reference.Parse(name); err == nil {
			name = ref.WithDigest(p.Digest).Familiar()
		}
		names = appendNew(names, name)
	}
	return names
}
