package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"strata/internal/cli/render"
	"strata/internal/config"
	"strata/internal/engine"
	"strata/internal/errdef"
	"strata/internal/layer"
	"strata/internal/oci"
	"strata/internal/progress"
	"strata/internal/reference"
)

// display shows the progress of a verb on standard error, unless nobody wants to see it.
func (a *app) display(title string, quiet bool) (render.Progress, error) {
	mode := "auto"
	if quiet {
		mode = "quiet"
	}
	display, err := render.NewProgress(mode, title, os.Stderr)
	if err == nil {
		a.opts.Sink = display
	}
	return display, err
}

// transferGC lets garbage grow to a part of what is held, in percent: transfers hold large buffers, which cost the collector nothing.
const transferGC = 30

// transferFlags are those of verbs that move layers through a network.
func (a *app) transferFlags(cmd *cobra.Command) (set func() error) {
	var rate string
	cmd.Flags().IntVar(&a.opts.Transfer.Concurrent, "max-concurrent", 0, "connections that carry layers at a time (default 16)")
	cmd.Flags().StringVar(&rate, "limit-rate", "", "bytes a second of all of them together: 500k, 10m")
	return func() (err error) {
		debug.SetGCPercent(transferGC)
		if a.opts.Transfer.Concurrent < 0 {
			return usagef("--max-concurrent %d: want a number of connections", a.opts.Transfer.Concurrent)
		}
		if rate == "" {
			return nil
		}
		if a.opts.Transfer.Rate, err = config.ParseSize(rate); err != nil || a.opts.Transfer.Rate == 0 {
			return usagef("--limit-rate %q: want a number of bytes a second, or one with k, m or g", rate)
		}
		return nil
	}
}

func (a *app) pull() *cobra.Command {
	var o engine.PullOptions
	var platform string
	var limits func() error
	var quiet bool
	cmd := &cobra.Command{
		Use:   "pull [OPTIONS] NAME[:TAG|@DIGEST]",
		Short: "Fetch an image from a registry",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if o.Platform, err = oci.ParsePlatform(platform); err != nil {
				return err
			}
			if err := limits(); err != nil {
				return err
			}
			if err := a.enter(cmd.Context()); err != nil {
				return err
			}
			if ref, err := reference.Parse(args[0]); err == nil && ref.Tag == "" && ref.Digest == "" && !o.All && !quiet {
				fmt.Fprintln(a.err, "Using default tag: latest")
			}
			display, err := a.display("Pulling", quiet)
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				pulled, err := e.Pull(cmd.Context(), args[0], o)
				if err := errors.Join(err, display.Close()); err != nil {
					return err
				}
				a.capImages(cmd.Context(), e)
				return a.printPulled(pulled, o.Platform, quiet)
			})
		},
	}
	cmd.Flags().BoolVarP(&o.All, "all-tags", "a", false, "fetch every tag of the repository")
	cmd.Flags().StringVar(&platform, "platform", os.Getenv("DOCKER_DEFAULT_PLATFORM"), "platform of the image: OS/ARCH[/VARIANT]")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print the name only")
	limits = a.transferFlags(cmd)
	return cmd
}

// printPulled says what came, in docker's lines.
func (a *app) printPulled(pulled []engine.Pulled, asked oci.Platform, quiet bool) error {
	for _, p := range pulled {
		if quiet {
			fmt.Fprintln(a.out, p.Name)
			continue
		}
		if c := p.Image.Config; asked.OS != "" && !oci.Runs(asked, c) { // the name stands for one image, whatever was asked for
			fmt.Fprintf(a.err, "WARNING: image with reference %s was found but does not match the specified platform: wanted %s, actual: %s\n",
				reference.Familiarize(p.Name), oci.Format(asked), oci.Format(oci.Platform{OS: c.OS, Architecture: c.Architecture, Variant: c.Variant}))
		}
		status := "Image is up to date for "
		if p.Fresh {
			status = "Downloaded newer image for "
		}
		if ref, err := reference.Parse(p.Name); err == nil && ref.Official() {
			fmt.Fprintf(a.err, "%s is an official image of docker.io\n", ref.Familiar())
		}
		if _, err := fmt.Fprintf(a.out, "Digest: %s\nStatus: %s%s\n%s\n", p.Digest, status, reference.Familiarize(p.Name), p.Name); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) push() *cobra.Command {
	var o engine.PushOptions
	var platform string
	var quiet bool
	var limits func() error
	cmd := &cobra.Command{
		Use:   "push [OPTIONS] NAME[:TAG]",
		Short: "Upload an image to a registry",
		Args:  exactly(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := layer.CheckCompression(o.Compression, o.Level); err != nil {
				return usageError{err}
			}
			var err error
			if o.Platform, err = oci.ParsePlatform(platform); err != nil {
				return err
			}
			if err := limits(); err != nil {
				return err
			}
			if err := a.enter(cmd.Context()); err != nil {
				return err
			}
			display, err := a.display("Pushing", quiet)
			if err != nil {
				return err
			}
			return a.with(cmd.Context(), func(e *engine.Engine) error {
				pushed, err := e.Push(cmd.Context(), args[0], o)
				if err := errors.Join(err, display.Close()); err != nil {
					return err
				}
				return a.printPushed(pushed, quiet)
			})
		},
	}
	cmd.Flags().BoolVarP(&o.All, "all-tags", "a", false, "push every tag of the repository")
	cmd.Flags().StringVar(&platform, "platform", "", "push the image for OS/ARCH[/VARIANT] alone, not all of them")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print the name only")
	cmd.Flags().StringVar(&o.Compression, "compression", layer.Gzip, "of layers that have no compressed form yet: gzip, zstd or none")
	cmd.Flags().IntVar(&o.Level, "compression-level", 0, "compression level; 0 is the usual one")
	cmd.Flags().BoolVar(&o.Force, "force-compression", false, "compress layers anew that are known in another compression only")
	limits = a.transferFlags(cmd)
	return cmd
}

func (a *app) printPushed(pushed []engine.Pushed, quiet bool) error {
	for _, p := range pushed {
		if quiet {
			fmt.Fprintln(a.out, p.Name)
			continue
		}
		tag := p.Name[strings.LastIndexByte(p.Name, ':')+1:]
		if _, err := fmt.Fprintf(a.out, "%s: digest: %s size: %d\n", tag, p.Digest, p.Size); err != nil {
			return err
		}
	}
	return nil
}

// missingImage shows a pull that a run turns out to need: the display begins with the first event, and close ends it
// before the container has the terminal.
func (a *app) missingImage(quiet bool) (close func() error) {
	if quiet {
		return func() error { return nil }
	}
	var display render.Progress
	show := func() render.Progress {
		if display == nil {
			// The mode is one that there is, so there is no error.
			display, _ = render.NewProgress("auto", "Pulling", os.Stderr)
		}
		return display
	}
	a.opts.Missing = func(name string) {
		fmt.Fprintf(a.err, "Unable to find image '%s' locally\n", render.Clean(familiar(name)))
	}
	a.opts.Sink = progress.Func(func(e progress.Event) { show().Emit(e) })
	return func() error {
		if display == nil {
			return nil
		}
		return display.Close()
	}
}

// familiar is a name with its tag, as docker prints it.
func familiar(name string) string {
	ref, err := reference.Parse(name)
	if err != nil {
		return name
	}
	return ref.Latest().Familiar()
}

func (a *app) login() *cobra.Command {
	var user, secret string
	var stdin bool
	cmd := &cobra.Command{
		Use:   "login [OPTIONS] [SERVER]",
		Short: "Log in to a registry: docker.io unless another is named",
		Args:  between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			host := serverOf(args)
			switch {
			case stdin && cmd.Flags().Changed("password"):
				return errors.New("conflicting options: cannot specify both --password and --password-stdin")
			case stdin && user == "":
				return errors.New("the --password-stdin option requires --username to be set")
			case cmd.Flags().Changed("password"):
				fmt.Fprintln(a.err, "WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
			}
			user, secret, err := a.askCredentials(host, user, secret, stdin)
			if err != nil {
				return err
			}
			res, err := engine.Registries().Login(cmd.Context(), host, user, secret)
			if err != nil {
				return err
			}
			if res.Helper == "" {
				fmt.Fprintf(a.err, "WARNING! Your credentials are stored unencrypted in '%s'.\nConfigure a credential helper (\"credsStore\") to remove this warning.\n", res.File)
			}
			_, err = fmt.Fprintln(a.out, "Login Succeeded")
			return err
		},
	}
	cmd.Flags().StringVarP(&user, "username", "u", "", "user name")
	cmd.Flags().StringVarP(&secret, "password", "p", "", "password or token")
	cmd.Flags().BoolVar(&stdin, "password-stdin", false, "read the password from standard input")
	return cmd
}

// serverOf is the registry that login or logout is about. People paste addresses.
func serverOf(args []string) string {
	if len(args) == 0 {
		return "docker.io"
	}
	host := strings.TrimPrefix(strings.TrimPrefix(args[0], "https://"), "http://")
	host, _, _ = strings.Cut(host, "/")
	switch host {
	case "index.docker.io", "registry-1.docker.io", "hub.docker.com", "":
		return "docker.io"
	}
	return host
}

// maxSecret bounds a password on standard input, in bytes: identity tokens are long.
const maxSecret = 64 << 10

// askCredentials takes what the flags did not say from standard input, or asks for it on the terminal.
func (a *app) askCredentials(host, user, secret string, stdin bool) (string, string, error) {
	if stdin {
		raw, err := io.ReadAll(io.LimitReader(a.in, maxSecret))
		return user, strings.TrimRight(string(raw), "\r\n"), err
	}
	if (user == "" || secret == "") && !term.IsTerminal(int(a.in.Fd())) {
		return "", "", failure{errdef.WithHint(errors.New("cannot perform an interactive login from a non TTY device"),
			fmt.Sprintf("strata login -u USER --password-stdin %s < FILE", host)), 1}
	}
	if user == "" {
		fmt.Fprintf(a.err, "Username for %s: ", host)
		line, err := bufio.NewReader(a.in).ReadString('\n')
		if err != nil {
			return "", "", fmt.Errorf("user name: %w", err)
		}
		user = strings.TrimSpace(line)
	}
	if secret == "" {
		fmt.Fprint(a.err, "Password: ")
		raw, err := term.ReadPassword(int(a.in.Fd()))
		fmt.Fprintln(a.err)
		if err != nil {
			return "", "", fmt.Errorf("password: %w", err)
		}
		secret = string(raw)
	}
	if user == "" || secret == "" {
		return "", "", errors.New("a user name and a password are needed")
	}
	return user, secret, nil
}

func (a *app) logout() *cobra.Command {
	return &cobra.Command{
		Use:   "logout [SERVER]",
		Short: "Forget the credentials for a registry",
		Args:  between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			host := serverOf(args)
			known, err := engine.Registries().Logout(cmd.Context(), host)
			if err != nil {
				return err
			}
			if !known {
				_, err = fmt.Fprintln(a.out, "Not logged in to "+host)
				return err
			}
			_, err = fmt.Fprintf(a.out, "Removing login credentials for %s\n", host)
			return err
		},
	}
}
