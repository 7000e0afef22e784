package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"strata/internal/archive"
	"strata/internal/atomicfile"
	"strata/internal/engine"
	"strata/internal/errdef"
	"strata/internal/fetch"
	"strata/internal/image"
	"strata/internal/oci"
	"strata/internal/reference"
)

func (a *app) save() *cobra.Command {
	var o engine.SaveOptions
	var output, format, platform string
	cmd := &cobra.Command{
		Use:   "save [OPTIONS] IMAGE [IMAGE...]",
		Short: "Write images into an archive",
		Args:  atLeast(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch format {
			case "docker", "docker-archive":
				o.Format = archive.Docker
			case "oci", "oci-archive":
				o.Format = archive.OCI
			default:
				return usagef("--format %q: docker or oci", format)
			}
			var err error
			if o.Platform, err = oci.ParsePlatform(platform); err != nil {
				return usageError{err}
			}
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				return a.output(output, func(w io.Writer) error { return e.Save(cmd.Context(), w, args, o) })
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&output, "output", "o", "", "write to a file instead of standard output")
	fl.StringVar(&format, "format", "docker", "docker (an OCI layout too: docker, podman and skopeo read it) or oci")
	fl.StringVar(&o.Compression, "compression", "none", "none, gzip or zstd")
	fl.IntVar(&o.Level, "compression-level", 0, "compression level; 0 is the usual one")
	fl.StringVar(&platform, "platform", "", "save the image for OS/ARCH[/VARIANT] alone, not all of them")
	fl.BoolVarP(&o.AllTags, "all-tags", "a", false, "the names are repositories: save every tag of each")
	return cmd
}

// output gives fn a writer to the named file, or to standard output when that is no terminal. A file is complete or absent.
func (a *app) output(name string, fn func(w io.Writer) error) error {
	if name == "" || name == "-" {
		if f, ok := a.out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			return errors.New("cowardly refusing to save to a terminal. Use the -o flag or redirect")
		}
		w := bufio.NewWriterSize(a.out, 1<<20)
		return errors.Join(fn(w), w.Flush())
	}
	if st, err := os.Stat(name); err == nil && !st.Mode().IsRegular() {
		return fmt.Errorf("invalid output path: %s is not a regular file", name)
	}
	_, err := os.Stat(filepath.Dir(name))
	if err == nil {
		_, err = filepath.Abs(name)
	}
	if err != nil {
		return fmt.Errorf("invalid output path: %w", err)
	}
	if err := atomicfile.Stream(name, 0o600, fn); err != nil {
		return fmt.Errorf("output %s: %w", name, err)
	}
	return nil
}

func (a *app) load() *cobra.Command {
	var input, platform string
	var quiet bool
	cmd := &cobra.Command{
		Use:   "load [OPTIONS]",
		Short: "Take the images of an archive into the store",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := oci.ParsePlatform(platform)
			if err != nil {
				return usageError{err}
			}
			if err := a.enter(cmd.Context()); err != nil {
				return err
			}
			display, err := a.display("Loading", quiet)
			if err != nil {
				return err
			}
			err = a.with(cmd.Context(), func(e *engine.Engine) error {
				loaded, err := a.loadFrom(cmd, e, input, p)
				if err != nil {
					return err
				}
				a.capImages(cmd.Context(), e)
				return errors.Join(display.Close(), a.printLoaded(loaded))
			})
			return errors.Join(err, display.Close())
		},
	}
	cmd.Flags().StringVarP(&input, "input", "i", "", "read from a file or an OCI layout directory instead of standard input")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "show no progress")
	cmd.Flags().StringVar(&platform, "platform", "", "load the images for OS/ARCH[/VARIANT], and nothing else")
	return cmd
}

func (a *app) loadFrom(cmd *cobra.Command, e *engine.Engine, input string, p oci.Platform) ([]archive.Loaded, error) {
	if input == "" || input == "-" {
		if term.IsTerminal(int(a.in.Fd())) {
			return nil, usageError{errdef.WithHint(errors.New("standard input is a terminal"), "use -i FILE, or redirect the input")}
		}
		return e.Load(cmd.Context(), a.in, p)
	}
	f, err := os.Open(input)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.IsDir() {
		return e.LoadDir(cmd.Context(), input, p)
	}
	loaded, err := e.Load(cmd.Context(), f, p)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", input, err)
	}
	return loaded, nil
}

func (a *app) printLoaded(loaded []archive.Loaded) error {
	for _, l := range loaded {
		for _, name := range l.Names {
			fmt.Fprintln(a.out, "Loaded image:", reference.Familiarize(name))
		}
		if len(l.Names) == 0 {
			fmt.Fprintln(a.out, "Loaded image ID:", l.ID)
		}
	}
	return nil
}

func (a *app) importImage() *cobra.Command {
	var o engine.ImportOptions
	var platform string
	cmd := &cobra.Command{
		Use:   "import [OPTIONS] FILE|URL|- [REPOSITORY[:TAG]]",
		Short: "Make an image of a root file system's tar",
		Args:  between(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				o.Name = args[1]
			}
			var err error
			if o.Platform, err = oci.ParsePlatform(platform); err != nil {
				return err
			}
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				img, err := a.importFrom(cmd.Context(), e, args[0], o)
				if err != nil {
					return err
				}
				return a.printID(img.ID)
			})
		},
	}
	fl := cmd.Flags()
	fl.StringArrayVarP(&o.Changes, "change", "c", nil, "apply a Dockerfile instruction: CMD [\"sh\"]")
	fl.StringVarP(&o.Message, "message", "m", "", "say in the history where it came from")
	fl.StringVar(&platform, "platform", "", "platform of the image: OS/ARCH[/VARIANT]")
	return cmd
}

// importFrom imports a file, what a URL gives, or with "-" what standard input does.
func (a *app) importFrom(ctx context.Context, e *engine.Engine, source string, o engine.ImportOptions) (image.Image, error) {
	if source == "-" {
		return e.Import(ctx, a.in, o)
	}
	if fetch.IsURL(source) {
		return e.ImportURL(ctx, source, o)
	}
	f, err := os.Open(source)
	if err != nil {
		return image.Image{}, err
	}
	defer f.Close()
	return e.Import(ctx, f, o)
}

func (a *app) printID(id digest.Digest) error {
	_, err := fmt.Fprintln(a.out, id)
	return err
}

func (a *app) export() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "export [OPTIONS] CONTAINER",
		Short: "Write a container's file system as a tar",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				return a.output(output, func(w io.Writer) error { return e.Export(cmd.Context(), args[0], w) })
			})
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "write to a file instead of standard output")
	return cmd
}

func (a *app) commit() *cobra.Command {
	var o engine.CommitOptions
	var pause bool
	cmd := &cobra.Command{
		Use:   "commit [OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
		Short: "Make an image of a container's changes",
		Args:  between(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				o.Name = args[1]
			}
			o.NoPause = !pause
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				img, err := e.Commit(cmd.Context(), args[0], o)
				if err != nil {
					return err
				}
				return a.printID(img.ID)
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&o.Author, "author", "a", "", "author of the image")
	fl.StringVarP(&o.Message, "message", "m", "", "say in the history what changed")
	fl.StringArrayVarP(&o.Changes, "change", "c", nil, "apply a Dockerfile instruction: CMD [\"sh\"]")
	fl.BoolVarP(&pause, "pause", "p", true, "pause a running container meanwhile")
	return cmd
}
