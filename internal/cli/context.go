package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"strata/internal/cli/render"
	"strata/internal/errdef"
)

// contextName is the one context: docker's name for what is used when nothing was chosen.
const contextName = "default"

// contextGroup answers those of docker's commands that ask which engine is used. Others than this one there are none.
func (a *app) contextGroup() *cobra.Command {
	show := &cobra.Command{
		Use: "show", Short: "Print the name of the one context", Args: exactly(0),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(a.out, contextName)
			return err
		},
	}
	use := &cobra.Command{
		Use: "use CONTEXT", Short: "As docker's: there is one context", Args: exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if args[0] != contextName {
				return noSuchContext(args[0])
			}
			_, err := fmt.Fprintln(a.out, contextName)
			return err
		},
	}
	return a.group("context", "Tell which engine is used: this one", a.contextInspect(), a.contextLs(), show, use)
}

func noSuchContext(name string) error {
	err := fmt.Errorf("context %q: %w", name, errdef.ErrNotFound)
	return errdef.WithHint(err, "there is no daemon to talk to, so "+contextName+" is the only one; a store is chosen by --root or STRATA_ROOT")
}

// contextRow is the one line of `context ls`. There is no endpoint: nothing listens.
type contextRow struct {
	Current        string
	Description    string
	DockerEndpoint string `heading:"DOCKER ENDPOINT"`
	Error          string
	Name           string
}

func (a *app) contextLs() *cobra.Command {
	l := render.List{Key: "Name", Columns: []string{"Name", "Description", "DockerEndpoint", "Error"}}
	cmd := &cobra.Command{
		Use: "ls [OPTIONS]", Aliases: []string{"list"}, Short: "List the contexts: there is one", Args: exactly(0),
		RunE: func(*cobra.Command, []string) error {
			row := contextRow{Name: contextName, Current: "true", Description: "this program, without a daemon"}
			if !l.Quiet && l.Format == "" {
				row.Name += " *"
			}
			return render.Rows(a.out, l, []contextRow{row})
		},
	}
	cmd.Flags().StringVar(&l.Format, "format", "", "print with a template, or json")
	cmd.Flags().BoolVarP(&l.Quiet, "quiet", "q", false, "print names only")
	return cmd
}

// contextDocument is docker's, with an empty address.
type contextDocument struct {
	Name        string
	Metadata    struct{}
	Endpoints   map[string]contextEndpoint
	TLSMaterial struct{}
	Storage     struct{ MetadataPath, TLSPath string }
}

type contextEndpoint struct {
	Host          string
	SkipTLSVerify bool
}

func (a *app) contextInspect() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use: "inspect [OPTIONS] [CONTEXT]", Short: "Show all that is known of the one context", Args: between(0, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 && args[0] != contextName {
				return noSuchContext(args[0])
			}
			return render.Inspect(a.out, format, []any{contextDocument{Name: contextName, Endpoints: map[string]contextEndpoint{"docker": {}}}})
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "print with a template, or json")
	return cmd
}
