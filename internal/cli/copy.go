package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"strata/internal/cli/render"
	"strata/internal/engine"
	"strata/internal/oci"
)

// carrier gives fn what copies images: with the store where one of the places needs it.
func (a *app) carrier(cmd *cobra.Command, title string, quiet bool, needsStore bool, fn func(c engine.Carrier) error) error {
	if needsStore {
		if err := a.enter(cmd.Context()); err != nil {
			return err
		}
	}
	cmd.Context().Done() // from here on a signal is heard
	display, err := a.display(title, quiet)
	if err != nil {
		return err
	}
	c := engine.Carrier{Client: engine.RegistriesFor(a.opts), Sink: display}
	if !needsStore {
		return errors.Join(fn(c), display.Close())
	}
	err = a.with(cmd.Context(), func(e *engine.Engine) error {
		c.Store = e
		return fn(c)
	})
	return errors.Join(err, display.Close())
}

func (a *app) imageCopy() *cobra.Command {
	var o engine.ImageCopyOptions
	var platform string
	var quiet, referrers bool
	var limits func() error
	cmd := &cobra.Command{
		Use:   "copy [OPTIONS] SOURCE DESTINATION",
		Short: "Copy an image between registries, archives, directories and stores",
		Args:  exactly(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := limits(); err != nil {
				return err
			}
			from, err := engine.ParsePlace(args[0])
			if err != nil {
				return err
			}
			to, err := engine.ParsePlace(args[1])
			if err != nil {
				return err
			}
			if o.Platform, err = oci.ParsePlatform(platform); err != nil {
				return usageError{err}
			}
			o.NoReferrers = !referrers
			return a.carrier(cmd, "Copying", quiet, from.NeedsStore() || to.NeedsStore(), func(c engine.Carrier) error {
				done, err := c.Copy(cmd.Context(), from, to, o)
				if err != nil {
					return err
				}
				return a.printCopied(done, quiet)
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&platform, "platform", "", "copy the image for OS/ARCH[/VARIANT] alone, not all of them")
	fl.BoolVar(&referrers, "referrers", true, "copy signatures, inventories and whatever else refers to the image")
	fl.BoolVarP(&quiet, "quiet", "q", false, "print the digest only")
	limits = a.transferFlags(cmd)
	return cmd
}

// printCopied says what a name has come to stand for, and what that took.
func (a *app) printCopied(done engine.Copied, quiet bool) error {
	if quiet {
		_, err := fmt.Fprintln(a.out, done.Digest)
		return err
	}
	also := ""
	if done.Referrers > 0 {
		also = fmt.Sprintf(", %d referrers", done.Referrers)
	}
	_, err := fmt.Fprintf(a.out, "%s: digest: %s (%d new blobs, %s%s)\n", render.Clean(done.Name), done.Digest, done.Sent, render.HumanSizePrecision(done.Bytes, 3), also)
	return err
}
