package cli

import (
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"strata/internal/engine"
	"strata/internal/errdef"
	"strata/internal/oci"
)

func (a *app) imageSync() *cobra.Command {
	var o engine.SyncOptions
	var platform string
	var quiet, referrers bool
	var limits func() error
	cmd := &cobra.Command{
		Use:   "sync [OPTIONS] LIST [FILE.tar]",
		Short: "Copy many images between registries, or through one archive to where no network leads",
		Args:  between(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := limits()
			if err != nil {
				return err
			}
			if o.Platform, err = oci.ParsePlatform(platform); err != nil {
				return usageError{err}
			}
			o.NoReferrers = !referrers
			o.Done = func(c engine.Copied) error { return a.printCopied(c, quiet) }
			return a.carrier(cmd, "Copying", quiet, false, func(c engine.Carrier) error { return a.syncAll(cmd, c, args, o) })
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&o.To, "to", "", "put HOST[:PORT][/PATH] in the place of the registry in the names of destinations")
	fl.StringVar(&platform, "platform", "", "copy the images for OS/ARCH[/VARIANT] alone, not all of them")
	fl.BoolVar(&referrers, "referrers", true, "copy signatures, inventories and whatever else refers to the images")
	fl.BoolVarP(&quiet, "quiet", "q", false, "print digests only")
	limits = a.transferFlags(cmd)
	return cmd
}

// syncAll goes the way that the arguments say: list to registries, list to archive, or archive to registries.
func (a *app) syncAll(cmd *cobra.Command, c engine.Carrier, args []string, o engine.SyncOptions) error {
	bundle := args[0] != "-" && engine.IsBundle(args[0])
	if bundle && len(args) == 2 {
		return usageError{errdef.WithHint(errors.New(args[0]+" is an archive already"), "to registries: strata image sync "+args[0]+" [--to HOST]")}
	}
	if bundle {
		return c.SyncIn(cmd.Context(), args[0], o)
	}
	list := io.Reader(a.in)
	if args[0] != "-" {
		f, err := os.Open(args[0])
		if err != nil {
			return err
		}
		defer f.Close()
		list = f
	}
	if len(args) == 2 {
		return c.SyncOut(cmd.Context(), list, args[1], o)
	}
	return c.SyncRegistries(cmd.Context(), list, o)
}
