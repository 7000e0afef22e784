package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"strata/internal/cli/render"
	"strata/internal/engine"
	"strata/internal/oci"
	"strata/internal/reference"
	"strata/internal/remote"
)

// imagetools works on images in registries; nothing comes into the store.
func (a *app) imagetools() *cobra.Command {
	return a.group("imagetools", "Work with images in registries", a.imagetoolsInspect(), a.imagetoolsCreate())
}

// remoteImage is what templates of `imagetools inspect --format` see.
type remoteImage struct {
	Name     string             `json:"name"`
	Manifest ocispec.Descriptor `json:"manifest"`
	Image    *oci.Image         `json:"image"`
}

func (a *app) imagetoolsInspect() *cobra.Command {
	var raw bool
	var format string
	cmd := &cobra.Command{
		Use:   "inspect [OPTIONS] NAME",
		Short: "Show what a registry has under a name",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if raw && format != "" {
				return usagef("--raw and --format cannot be used together")
			}
			c := engine.Registries()
			ref, doc, err := engine.RemoteDocument(cmd.Context(), c, args[0])
			switch {
			case err != nil:
				return err
			case raw:
				_, err = a.out.Write(doc.Raw)
				return err
			case format == "":
				return a.remoteText(ref, doc)
			}
			about := remoteImage{Name: ref.String(), Manifest: doc.Descriptor}
			if about.Image, err = engine.RemoteConfig(cmd.Context(), c, ref, doc); err != nil {
				return err
			}
			return render.Document(a.out, format, about)
		},
	}
	cmd.Flags().BoolVar(&raw, "raw", false, "print the document as the registry has it")
	cmd.Flags().StringVar(&format, "format", "", "print with a template, or json")
	return cmd
}

// remoteText prints a document as docker does.
func (a *app) remoteText(ref reference.Ref, doc remote.Document) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Name:      %s\nMediaType: %s\nDigest:    %s\n", ref, doc.Descriptor.MediaType, doc.Descriptor.Digest)
	if oci.IsIndex(doc.Descriptor.MediaType) {
		x, err := oci.ParseIndex(doc.Raw)
		if err != nil {
			return err
		}
		fmt.Fprint(&b, "           \nManifests: \n")
		for i, d := range x.Manifests {
			if i > 0 {
				fmt.Fprint(&b, "             \n")
			}
			fmt.Fprintf(&b, "  Name:      %s\n  MediaType: %s\n", ref.WithDigest(d.Digest), render.Clean(d.MediaType))
			if d.Platform != nil {
				fmt.Fprintf(&b, "  Platform:  %s\n", render.Clean(oci.Format(*d.Platform)))
			}
		}
	}
	_, err := io.WriteString(a.out, b.String())
	return err
}

func (a *app) imagetoolsCreate() *cobra.Command {
	var o engine.CombineOptions
	var dry bool
	var annotations []string
	cmd := &cobra.Command{
		Use:   "create [OPTIONS] SOURCE [SOURCE...]",
		Short: "Put images of registries together under a new name",
		Args:  atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(o.Tags) == 0 && !dry {
				return usagef("a name is needed: -t NAME[:TAG]")
			}
			var err error
			if o.Annotations, err = indexAnnotations(annotations); err != nil {
				return err
			}
			c := engine.Registries()
			all, err := engine.Combine(cmd.Context(), c, args, o)
			if err != nil {
				return err
			}
			if dry {
				_, err = fmt.Fprintln(a.out, string(all.Raw))
				return err
			}
			for _, tag := range o.Tags {
				if _, err := all.Push(cmd.Context(), c, tag); err != nil {
					return err
				}
				fmt.Fprintf(a.err, "pushed %s@%s\n", familiar(tag), digest.FromBytes(all.Raw))
			}
			return nil
		},
	}
	fl := cmd.Flags()
	fl.StringArrayVarP(&o.Tags, "tag", "t", nil, "name of the image: NAME[:TAG]; may be given several times")
	fl.BoolVar(&o.Append, "append", false, "add to what the name stands for now")
	fl.BoolVar(&dry, "dry-run", false, "print the document instead of pushing it")
	fl.StringArrayVar(&annotations, "annotation", nil, "set an annotation of the index: [index:]KEY=VALUE")
	return cmd
}

// indexAnnotations reads --annotation where only an index is made.
func indexAnnotations(texts []string) (map[string]string, error) {
	var found map[string]string
	for _, text := range texts {
		if key, _, _ := strings.Cut(text, "="); !strings.Contains(key, ":") {
			text = string(engine.OnIndex) + ":" + text
		}
		all, err := buildAnnotation(text)
		if err != nil {
			return nil, err
		}
		for _, one := range all {
			if one.On != engine.OnIndex {
				return nil, usagef("--annotation %q: only the index is made here: index:KEY=VALUE", text)
			}
			if found == nil {
				found = map[string]string{}
			}
			found[one.Key] = one.Value
		}
	}
	return found, nil
}
