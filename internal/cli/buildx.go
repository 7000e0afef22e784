package cli

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"strata/internal/cli/render"
	"strata/internal/oci"
	"strata/internal/program"
)

// buildxGroup is docker's plugin for builds: there is one builder, this program, and what makes others succeeds with a note.
func (a *app) buildxGroup() *cobra.Command {
	cmd := a.group("buildx", "Work with builds, as docker's plugin", a.build(), a.builderDu(), a.imagetools(), a.builderPrune(),
		a.buildxLs(), a.buildxInspect(), a.buildxVersion(), a.buildxCreate(), a.buildxNote("use", "NAME"), a.buildxNote("rm", "[NAME...]"),
		a.buildxNote("stop", "[NAME]"), a.buildxNote("install", ""), a.buildxNote("uninstall", ""))
	cmd.PersistentFlags().String("builder", "", "as docker's: there is one builder")
	cmd.PersistentPreRun = func(cmd *cobra.Command, _ []string) {
		if cmd.Flags().Changed("builder") {
			fmt.Fprintln(a.err, "note: --builder changes nothing:", oneBuilder)
		}
	}
	return cmd
}

// oneBuilder is why making or choosing a builder does nothing.
const oneBuilder = "strata builds by itself: there is one builder, and it needs no setting up"

// buildxNote is a verb that has nothing to do.
func (a *app) buildxNote(verb, args string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   strings.TrimSpace(verb + " [OPTIONS] " + args),
		Short: "As docker's: changes nothing, there is one builder",
		Args:  cobra.ArbitraryArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(a.err, "note:", oneBuilder)
			return err
		},
	}
	fl := cmd.Flags()
	switch verb {
	case "use":
		fl.Bool("default", false, "as docker's")
		fl.Bool("global", false, "as docker's")
	case "rm":
		for _, name := range []string{"all-inactive", "keep-daemon", "keep-state"} {
			fl.Bool(name, false, "as docker's")
		}
		fl.BoolP("force", "f", false, "as docker's")
	}
	return cmd
}

// buildxCreate prints a name, which scripts keep.
func (a *app) buildxCreate() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "create [OPTIONS] [CONTEXT|ENDPOINT]",
		Short: "As docker's: changes nothing, there is one builder",
		Args:  between(0, 1),
		RunE: func(*cobra.Command, []string) error {
			fmt.Fprintln(a.err, "note:", oneBuilder)
			_, err := fmt.Fprintln(a.out, name)
			return err
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&name, "name", "default", "name to print")
	for _, flag := range []string{"append", "bootstrap", "leave", "use"} {
		fl.Bool(flag, false, "as docker's")
	}
	for _, flag := range []string{"buildkitd-config", "buildkitd-flags", "config", "driver", "node"} {
		fl.String(flag, "", "as docker's")
	}
	for _, flag := range []string{"driver-opt", "platform"} {
		fl.StringArray(flag, nil, "as docker's")
	}
	return cmd
}

func (a *app) buildxVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show the version",
		Args:  exactly(0),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(a.out, "strata %s %s\n", Version, runtime.Version())
			return err
		},
	}
}

// builderRow is the one line of `buildx ls`.
type builderRow struct {
	Name      string `heading:"NAME/NODE"`
	Driver    string `heading:"DRIVER/ENDPOINT"`
	Status    string
	Buildkit  string `heading:"BUILDKIT"`
	Platforms string
}

func (a *app) buildxLs() *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "ls [OPTIONS]",
		Short: "List the builders: there is one",
		Args:  exactly(0),
		RunE: func(*cobra.Command, []string) error {
			rows := []builderRow{{"default*", "strata", "running", "strata " + Version, buildPlatforms()}}
			return render.Rows(a.out, render.List{Format: format, Columns: []string{"Name", "Driver", "Status", "Buildkit", "Platforms"}}, rows)
		},
	}
	cmd.Flags().StringVar(&format, "format", "", "print with a template, or json")
	return cmd
}

func (a *app) buildxInspect() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inspect [OPTIONS] [NAME]",
		Short: "Show the one builder",
		Args:  between(0, 1),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(a.out, "Name:   default\nDriver: strata\n\nNodes:\nName:             default\nEndpoint:         default\nStatus:           running\n"+
				"BuildKit version: strata %s\nPlatforms:        %s\n", Version, buildPlatforms())
			return err
		},
	}
	cmd.Flags().Bool("bootstrap", false, "as docker's: nothing has to be started")
	return cmd
}

// buildPlatforms are this machine's and those that the kernel was taught to run.
func buildPlatforms() string {
	list := []string{oci.Format(oci.Host())}
	for _, arch := range program.Emulated() {
		list = appendNew(list, "linux/"+arch)
	}
	return strings.Join(list, ", ")
}
