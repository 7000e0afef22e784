package cli

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"strata/internal/cli/render"
	"strata/internal/container"
	"strata/internal/engine"
	"strata/internal/errdef"
	"strata/internal/network"
)

func (a *app) port() *cobra.Command {
	return &cobra.Command{
		Use:   "port CONTAINER [PRIVATE_PORT[/PROTO]]",
		Short: "Show where a container's ports are published",
		Args:  between(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.one(cmd.Context(), args[0], func(_ *container.Store, rec container.Record) error {
				if len(args) == 2 {
					return a.printPort(rec, args[0], args[1])
				}
				for _, b := range rec.State.Ports {
					fmt.Fprintf(a.out, "%s -> %s\n", b.Port, b.Host())
				}
				return nil
			})
		},
	}
}

// printPort prints where one port is published.
func (a *app) printPort(rec container.Record, name, text string) error {
	port, err := network.ParsePort(text)
	if err != nil {
		return fmt.Errorf("invalid port (%s): %w", text, err)
	}
	found := false
	for _, b := range rec.State.Ports {
		if b.Port == port {
			fmt.Fprintln(a.out, b.Host())
			found = true
		}
	}
	if !found {
		return noPublicPort{text, name}
	}
	return nil
}

// noPublicPort has docker's words.
type noPublicPort struct{ port, container string }

func (e noPublicPort) Error() string {
	return fmt.Sprintf("No public port '%s' published for %s", e.port, e.container)
}

func (e noPublicPort) Unwrap() error { return errdef.ErrNotFound }

// ports reads -p and --expose. A published port counts as exposed, as docker has it.
func (f *networkFlags) ports(o *engine.CreateOptions) error {
	expose := func(ports ...network.Port) {
		for _, p := range ports {
			if o.Config.ExposedPorts == nil {
				o.Config.ExposedPorts = map[string]struct{}{}
			}
			o.Config.ExposedPorts[p.String()] = struct{}{}
		}
	}
	for _, spec := range f.publish {
		list, err := network.ParsePublish(spec)
		if err != nil {
			return err
		}
		for _, p := range list {
			expose(p.Port)
		}
		o.Host.Publish = append(o.Host.Publish, list...)
	}
	for _, spec := range f.expose {
		ports, err := network.ParsePorts(spec)
		if err != nil {
			return fmt.Errorf("invalid range format for --expose: %w", err)
		}
		expose(ports...)
	}
	o.Host.PublishAll = f.publishAll
	return nil
}

// hasPort answers the filters publish and expose, both of which look at the container's own ports.
func hasPort(rec container.Record, key, value string) bool {
	wanted, err := network.ParsePorts(value)
	if err != nil {
		return false // it was checked before
	}
	ports := rec.Exposed()
	if key == "publish" {
		ports = nil
		for _, p := range rec.Host.Publish {
			ports = append(ports, p.Port)
		}
		for _, b := range rec.State.Ports {
			ports = append(ports, b.Port)
		}
	}
	return slices.ContainsFunc(ports, func(p network.Port) bool { return slices.Contains(wanted, p) })
}

// askedPorts are the published ports as they were asked for.
func askedPorts(h container.HostConfig) map[string][]render.PortBinding {
	doc := map[string][]render.PortBinding{}
	for _, p := range h.Publish {
		key := p.Port.String()
		doc[key] = append(doc[key], render.PortBinding{HostIP: p.Address(), HostPort: p.HostPort()})
	}
	return doc
}

// boundPorts are a running container's ports: where they are published, or nothing for those that are only exposed.
func boundPorts(rec container.Record) map[string][]render.PortBinding {
	doc := map[string][]render.PortBinding{}
	if !rec.State.Alive() {
		return doc
	}
	for _, p := range rec.Exposed() {
		doc[p.String()] = nil
	}
	for _, b := range rec.State.Ports {
		key := b.Port.String()
		doc[key] = append(doc[key], render.PortBinding{HostIP: b.HostIP.String(), HostPort: strconv.Itoa(int(b.HostPort))})
	}
	return doc
}
