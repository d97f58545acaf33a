package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hallmark-pki/hallmark/internal/estclient"
	"github.com/spf13/cobra"
)

func runCommand() *cobra.Command {
	var f enrollFlags
	var sameKey bool
	var attestEvery time.Duration
	c := &cobra.Command{
		Use:   "run --out DIR [flags of enroll]",
		Short: "Stay, and keep the certificate fresh",
		Long: `Renew whenever two thirds of the certificate's life have passed, a little
earlier by chance so that a fleet does not come at once. An unreachable or
refusing server is asked again, ever more slowly. With the flags of enroll, a
device that has no certificate, or let it expire, enrols first. A device with a
TPM attests at every renewal; with --attest-every, and on SIGHUP, also in between.`,
		Example: `  hallmark-device run --out /var/lib/device
  hallmark-device run --out /var/lib/device --server https://ca.example:8443 --ca root.crt --cert idevid.pem --key idevid.key`,
		RunE: func(c *cobra.Command, _ []string) error {
			if f.out == "" {
				return usagef("--out is missing")
			}
			if f.server != "" || f.ca != "" {
				if err := f.check(); err != nil {
					return err
				}
			}
			if err := f.tpm.check(); err != nil {
				return err
			}
			release, err := folder(f.out).lock()
			if err != nil {
				return err
			}
			defer release()
			asked := make(chan os.Signal, 1)
			signal.Notify(asked, syscall.SIGHUP)
			defer signal.Stop(asked)
			k := &keeper{command: c, flags: &f, folder: folder(f.out), sameKey: sameKey, attestEvery: attestEvery, asked: asked,
				log: slog.New(slog.NewTextHandler(c.ErrOrStderr(), nil))}
			return k.keep(c.Context())
		},
	}
	f.add(c)
	addOut(c, &f.out)
	c.Flags().BoolVar(&sameKey, "same-key", false, "keep the key at renewals instead of making a new one")
	c.Flags().DurationVar(&attestEvery, "attest-every", 0, "attest between renewals, too, this often, such as 1h")
	return c
}

// keeper keeps the certificate fresh.
type keeper struct {
	command *cobra.Command
	flags   *enrollFlags
	folder  folder
	sameKey bool
	log     *slog.Logger

	attestEvery time.Duration    // 0: at renewals only
	asked       <-chan os.Signal // to attest now
}

// keep returns nil when ctx ends, and an error only if staying is of no use.
func (k *keeper) keep(ctx context.Context) error {
	failures := 0
	for ctx.Err() == nil {
		held, err := k.folder.loadWith(&k.flags.tpm)
		if err != nil && !errors.Is(err, errNothing) {
			return err
		}
		if held == nil && k.flags.server == "" {
			return fmt.Errorf("%s: %w; give the flags of enroll", k.folder, errNothing)
		}
		if held != nil && failures == 0 {
			due := held.renewAt(rand.Float64())
			k.log.Info("waiting", "device", held.device(), "serial", held.serial(),
				"until", held.certificate.NotAfter.UTC(), "renews", due.UTC())
			if k.await(ctx, held, due) != nil {
				break
			}
		}
		got, err := k.ask(ctx, held)
		if err == nil {
			failures = 0
			k.log.Info("certificate written", "device", got.device(), "serial", got.serial(),
				"until", got.certificate.NotAfter.UTC())
			continue
		}
		if ctx.Err() != nil {
			break
		}
		failures++
		pause := backoff(failures, held, err)
		k.log.Warn("no certificate", "error", err, "again_in", pause.Round(time.Millisecond))
		if sleep(ctx, pause, nil) != nil {
			break
		}
	}
	return nil
}

// await returns when a renewal is due, and attests in between when it is asked to.
func (k *keeper) await(ctx context.Context, held *credential, due time.Time) error {
	for {
		next := due
		if k.attestEvery > 0 && held.state.TPM != nil {
			pause := k.attestEvery - rand.N(k.attestEvery/20+1) // spread, as renewals are
			if soon := time.Now().Add(pause); soon.Before(due) {
				next = soon
			}
		}
		err := sleep(ctx, time.Until(next), k.asked)
		if err != nil && !errors.Is(err, errAsked) {
			return err
		}
		if err == nil && next.Equal(due) {
			return nil
		}
		k.attest(ctx, held)
	}
}

// attest shows the machine's state. Whatever comes of it, the certificate stays
// what it is until its time has come.
func (k *keeper) attest(ctx context.Context, held *credential) {
	if held.state.TPM == nil {
		k.log.Warn("asked to attest, and there is no TPM to do it with", "device", held.device())
		return
	}
	appraisal, err := k.folder.attest(ctx, held)
	if err != nil {
		k.log.Warn("not attested", "device", held.device(), "error", err)
		return
	}
	k.log.Info("attested", "device", held.device(), "verdict", appraisal.Verdict, "notes", appraisal.Reasons, "ref", appraisal.Decision)
}

// ask renews, or enrols where there is nothing left to renew with.
func (k *keeper) ask(ctx context.Context, held *credential) (*credential, error) {
	var a *asking
	var err error
	if held == nil || k.flags.server != "" && time.Now().After(held.certificate.NotAfter) {
		a, err = k.flags.asking(k.command)
	} else {
		a, err = k.folder.renewal(held, k.sameKey)
	}
	if err != nil {
		return nil, err
	}
	return a.run(ctx)
}

// longestPause bounds the time between two attempts while there is no answer.
const longestPause = 5 * time.Minute

// backoff doubles from a second and is shortened by chance to no less than half,
// so that a fleet does not come back in step. It leaves several attempts before
// the certificate ends, and heeds what the server asked for.
func backoff(failures int, held *credential, err error) time.Duration {
	pause := min(time.Second<<min(failures-1, 20), longestPause)
	if held != nil {
		if left := time.Until(held.certificate.NotAfter); left > 0 {
			pause = max(min(pause, left/4), time.Second)
		}
	}
	pause = pause/2 + rand.N(pause/2)
	var answer *estclient.Error
	if errors.As(err, &answer) {
		pause = max(pause, answer.RetryAfter)
	}
	return pause
}
