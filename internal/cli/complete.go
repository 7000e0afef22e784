package cli

import (
	"context"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"strata/internal/container"
	"strata/internal/engine"
	"strata/internal/network"
	"strata/internal/reference"
)

// A wanted is what stands at the places of a verb's arguments: the kind of each, the last one's for all that follow. An
// empty kind has the shell offer files.
type wanted []string

// completions are what the verbs take, by their command lines without the program.
var completions = map[string]wanted{
	"attach": {"running"}, "commit": {"container", "none"}, "diff": {"container", "none"}, "exec": {"running", ""}, "export": {"container", "none"},
	"kill": {"running"}, "logs": {"container", "none"}, "pause": {"running"}, "port": {"running", "none"}, "rename": {"container", "none"}, "restart": {"container"},
	"rm": {"container"}, "start": {"stopped"}, "stats": {"running"}, "stop": {"running"}, "top": {"running", "none"}, "unpause": {"running"},
	"update": {"container"}, "wait": {"running"},
	"create": {"image", ""}, "run": {"image", ""}, "history": {"image", "none"}, "push": {"image", "none"}, "pull": {"image", "none"}, "rmi": {"image"},
	"save": {"image"}, "tag": {"image"}, "inspect": {"container image network volume"},
	"image ls": {"image", "none"}, "images": {"image", "none"}, "image rm": {"image"}, "image inspect": {"image"}, "container inspect": {"container"},
	"network connect": {"network", "container"}, "network disconnect": {"network", "container"}, "network inspect": {"network"}, "network rm": {"network"},
	"volume inspect": {"volume"}, "volume rm": {"volume"}, "volume export": {"volume", "none"},
}

// completing gives the verbs below root the names that the shell is to offer. What cannot be read is not offered.
func (a *app) completing(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		a.completing(cmd)
		_, words, _ := strings.Cut(cmd.CommandPath(), " ")
		want, ok := completions[words]
		if !ok {
			_, last, _ := strings.Cut(words, " ") // container stop is stop
			want, ok = completions[last]
		}
		if !ok {
			continue
		}
		cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return a.offer(cmd.Context(), want[min(len(args), len(want)-1)], args)
		}
		if cmd.Flags().Lookup("network") != nil {
			_ = cmd.RegisterFlagCompletionFunc("network", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
				return a.offer(cmd.Context(), "network", nil)
			}) // fails only for a flag that is not there
		}
	}
}

// offer gives the names of the kinds, without those that stand there already.
func (a *app) offer(ctx context.Context, kinds string, given []string) ([]string, cobra.ShellCompDirective) {
	if kinds == "" {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var names []string
	a.err = io.Discard // between two keystrokes nobody wants to be told anything
	err := a.with(ctx, func(e *engine.Engine) error {
		for kind := range strings.FieldsSeq(kinds) {
			some, err := namesOf(ctx, e, kind)
			if err != nil {
				return err
			}
			names = append(names, some...)
		}
		return nil
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return slices.DeleteFunc(names, func(n string) bool { return slices.Contains(given, n) }), cobra.ShellCompDirectiveNoFileComp
}

// namesOf lists what there is of one kind; of containers perhaps only those that run, or those that do not.
func namesOf(ctx context.Context, e *engine.Engine, kind string) ([]string, error) {
	switch kind {
	case "none":
		return nil, nil
	case "image":
		return imageNames(ctx, e)
	case "network":
		all, err := e.Networks().List()
		return each(all, func(n network.Network) string { return n.Name }), err
	}
	s, err := e.Containers()
	if err != nil {
		return nil, err
	}
	if kind == "volume" {
		all, err := s.ListVolumes(ctx)
		return each(all, func(v container.VolumeUsage) string { return v.Name }), err
	}
	all, err := s.List(ctx)
	all = slices.DeleteFunc(all, func(rec container.Record) bool {
		return kind == "running" && !rec.State.Alive() || kind == "stopped" && rec.State.Supervised()
	})
	return each(all, func(rec container.Record) string { return rec.Name }), err
}

// imageNames are the tags in their short form, and without ":latest".
func imageNames(ctx context.Context, e *engine.Engine) ([]string, error) {
	all, err := e.Images().Brief(ctx)
	var names []string
	for _, img := range all {
		for _, tag := range img.Tags {
			names = append(names, strings.TrimSuffix(reference.Familiarize(tag), ":latest"))
		}
	}
	return names, err
}

func each[T any](all []T, name func(T) string) []string {
	var names []string
	for _, v := range all {
		names = append(names, name(v))
	}
	return names
}
