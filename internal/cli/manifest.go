package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"strata/internal/engine"
	"strata/internal/errdef"
	"strata/internal/oci"
	"strata/internal/reference"
	"strata/internal/remote"
)

func (a *app) manifest() *cobra.Command {
	return a.group("manifest", "Put images of registries together into one for several platforms",
		a.manifestAnnotate(), a.manifestCreate(), a.manifestInspect(), a.manifestPush(), a.manifestRm())
}

// insecureFlag adds docker's --insecure, and gives the client that it asks for.
func insecureFlag(cmd *cobra.Command) func() *remote.Client {
	var insecure bool
	cmd.Flags().BoolVar(&insecure, "insecure", false, "allow plain HTTP and certificates that nobody vouches for")
	return func() *remote.Client {
		if insecure {
			return engine.InsecureRegistries()
		}
		return engine.Registries()
	}
}

func (a *app) manifestCreate() *cobra.Command {
	var amend bool
	var client func() *remote.Client
	cmd := &cobra.Command{
		Use:   "create MANIFEST_LIST MANIFEST [MANIFEST...]",
		Short: "Start a list of images, to be annotated and pushed",
		Args:  atLeast(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				full, err := e.CreateManifest(cmd.Context(), client(), args[0], args[1:], amend)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(a.out, "Created manifest list", full)
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&amend, "amend", "a", false, "add to a list that there is")
	client = insecureFlag(cmd)
	return cmd
}

func (a *app) manifestAnnotate() *cobra.Command {
	var p oci.Platform
	cmd := &cobra.Command{
		Use:   "annotate [OPTIONS] MANIFEST_LIST MANIFEST",
		Short: "Say for what platform an image of a list is",
		Args:  exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				return e.AnnotateManifest(cmd.Context(), args[0], args[1], p)
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&p.Architecture, "arch", "", "set the architecture")
	fl.StringVar(&p.OS, "os", "", "set the operating system")
	fl.StringSliceVar(&p.OSFeatures, "os-features", nil, "set features of the operating system")
	fl.StringVar(&p.OSVersion, "os-version", "", "set the operating system's version")
	fl.StringVar(&p.Variant, "variant", "", "set the architecture's variant")
	return cmd
}

func (a *app) manifestPush() *cobra.Command {
	var purge bool
	var client func() *remote.Client
	cmd := &cobra.Command{
		Use:   "push [OPTIONS] MANIFEST_LIST",
		Short: "Give a list to its registry",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				d, err := e.PushManifest(cmd.Context(), client(), args[0], purge)
				if err != nil {
					return err
				}
				return a.printID(d)
			})
		},
	}
	cmd.Flags().BoolVarP(&purge, "purge", "p", false, "forget the list when it is pushed")
	client = insecureFlag(cmd)
	return cmd
}

func (a *app) manifestRm() *cobra.Command {
	return &cobra.Command{
		Use:   "rm MANIFEST_LIST [MANIFEST_LIST...]",
		Short: "Forget lists; what registries have stays",
		Args:  atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				var failed []error
				for _, name := range args {
					failed = append(failed, e.RemoveManifest(name))
				}
				return errors.Join(failed...)
			})
		},
	}
}

func (a *app) manifestInspect() *cobra.Command {
	var verbose bool
	var client func() *remote.Client
	cmd := &cobra.Command{
		Use:   "inspect [OPTIONS] [MANIFEST_LIST] MANIFEST",
		Short: "Show a manifest or an index: of a list that was created here, else of a registry",
		Args:  between(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				l, err := e.Manifest(args[0])
				switch {
				case err == nil:
					return a.inspectList(cmd, client(), l, args[1:], verbose)
				case len(args) == 2 || !errors.Is(err, errdef.ErrNotFound):
					return err
				}
				c := client()
				ref, doc, err := engine.RemoteDocument(cmd.Context(), c, args[0])
				if err != nil {
					return err
				}
				return a.printManifest(cmd, c, ref, doc, verbose)
			})
		},
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "show references, platforms and the images of an index too")
	client = insecureFlag(cmd)
	return cmd
}

// inspectList shows a list that no registry has, or one of its images.
func (a *app) inspectList(cmd *cobra.Command, c *remote.Client, l engine.ManifestList, image []string, verbose bool) error {
	if len(image) == 0 {
		all, err := l.Combination()
		if err != nil {
			return err
		}
		if !verbose {
			return a.printIndented(all.Raw, "   ")
		}
		var entries []verboseManifest
		for _, item := range l.Items {
			ref, err := reference.Parse(item.Repository)
			if err != nil {
				return err
			}
			entry, err := verboseEntry(cmd, c, ref, item.Descriptor)
			if err != nil {
				return err
			}
			entries = append(entries, entry)
		}
		return a.printJSON(entries)
	}
	i, err := l.Item(image[0])
	if err != nil {
		return err
	}
	ref, err := reference.Parse(l.Items[i].Repository)
	if err != nil {
		return err
	}
	entry, err := verboseEntry(cmd, c, ref, l.Items[i].Descriptor)
	if err != nil {
		return err
	}
	if verbose {
		return a.printJSON(entry)
	}
	return a.printIndented(entry.Raw, "\t")
}

// verboseManifest is docker's form of `manifest inspect -v`.
type verboseManifest struct {
	Ref              string
	Descriptor       ocispec.Descriptor
	Raw              []byte
	SchemaV2Manifest json.RawMessage `json:",omitempty"`
	OCIManifest      json.RawMessage `json:",omitempty"`
}

func verboseEntry(cmd *cobra.Command, c *remote.Client, ref reference.Ref, desc ocispec.Descriptor) (verboseManifest, error) {
	doc, err := c.Any(cmd.Context(), ref.WithDigest(desc.Digest))
	entry := verboseManifest{Ref: ref.WithDigest(desc.Digest).String(), Descriptor: desc, Raw: doc.Raw}
	if desc.MediaType == oci.DockerManifest {
		entry.SchemaV2Manifest = doc.Raw
	} else {
		entry.OCIManifest = doc.Raw
	}
	return entry, err
}

func (a *app) printManifest(cmd *cobra.Command, c *remote.Client, ref reference.Ref, doc remote.Document, verbose bool) error {
	index := oci.IsIndex(doc.Descriptor.MediaType)
	switch {
	case !verbose && index:
		return a.printIndented(doc.Raw, "   ")
	case !verbose:
		return a.printIndented(doc.Raw, "\t")
	case !index:
		desc := doc.Descriptor
		if cfg, err := engine.RemoteConfig(cmd.Context(), c, ref, doc); err == nil { // what is no image has no platform
			desc.Platform = &oci.Platform{OS: cfg.OS, Architecture: cfg.Architecture, Variant: cfg.Variant, OSVersion: cfg.OSVersion}
		}
		entry, err := verboseEntry(cmd, c, ref, desc)
		if err != nil {
			return err
		}
		entry.Ref = ref.String()
		return a.printJSON(entry)
	}
	x, err := oci.ParseIndex(doc.Raw)
	if err != nil {
		return err
	}
	var entries []verboseManifest
	for _, d := range x.Manifests {
		entry, err := verboseEntry(cmd, c, ref, d)
		if err != nil {
			return err
		}
		entries = append(entries, entry)
	}
	return a.printJSON(entries)
}

// printIndented prints a document with white space for people; it is a registry's, so nothing but JSON may get through.
func (a *app) printIndented(raw []byte, indent string) error {
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", indent); err != nil {
		return fmt.Errorf("manifest: %w: %w", errdef.ErrInvalid, err)
	}
	_, err := fmt.Fprintln(a.out, b.String())
	return err
}

func (a *app) printJSON(v any) error {
	raw, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.out, string(raw))
	return err
}
