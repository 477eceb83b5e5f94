{{/* What no schema can say: values that contradict each other. Every refusal says what to do; all are told at once. */}}

{{- define "hermes.check" -}}
{{- $wrong := list -}}
{{- $ingest := .Values.ingest -}}
{{- $settings := .Values.settings -}}
{{- $secrets := .Values.secrets -}}
{{- $disk := eq $ingest.durability "disk" -}}
{{- $many := or (gt (int $ingest.replicas) 1) $ingest.autoscaling.enabled -}}

{{- if and $disk $ingest.autoscaling.enabled -}}
{{- $wrong = append $wrong "ingest.autoscaling with ingest.durability=disk: a pod that is scaled away leaves its volume behind, and nobody delivers what is still in that journal. Choose durability postgres or memory, or set ingest.replicas." -}}
{{- end -}}
{{- with $ingest.autoscaling -}}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) -}}
{{- $wrong = append $wrong (printf "ingest.autoscaling.minReplicas=%v is more than maxReplicas=%v." .minReplicas .maxReplicas) -}}
{{- end -}}
{{- if and .enabled (not (dig "requests" "cpu" "" $ingest.resources)) -}}
{{- $wrong = append $wrong "ingest.autoscaling: set ingest.resources.requests.cpu, for targetCPU is a percentage of it." -}}
{{- end -}}
{{- end -}}
{{- if and (include "hermes.runsSink" (list . "sqlite")) $many -}}
{{- $wrong = append $wrong "SINKS=sqlite with several pods: each would have a file with a part of the events. Set ingest.replicas=1, or use the sink postgres." -}}
{{- end -}}
{{- range $sink, $variable := dict "file" "SINK_FILE_PATH" "parquet" "SINK_PARQUET_URL" "sqlite" "SINK_SQLITE_PATH" -}}
{{- $path := get $settings $variable | default "" -}}
{{- if and (include "hermes.runsSink" (list $ $sink)) (not $disk) (not (hasPrefix "/" $path)) (not (contains "://" $path)) -}}
{{- $wrong = append $wrong (printf "SINKS=%s writes to the pod's volume, which only ingest.durability=disk has. Choose that, or name a folder of ingest.extraVolumeMounts in settings.%s." $sink $variable) -}}
{{- end -}}
{{- end -}}
{{- if and (include "hermes.runsSink" (list . "postgres")) (not (or (hasKey $secrets "DB_DSN") (hasKey $secrets "SINK_POSTGRES_DSN"))) -}}
{{- $wrong = append $wrong "SINKS=postgres: name the Secret that holds the database's address: secrets.DB_DSN: {secret: …, key: …}." -}}
{{- end -}}
{{- if and (eq $ingest.durability "postgres") (not (hasKey $secrets "DB_DSN")) -}}
{{- $wrong = append $wrong "ingest.durability=postgres: the journal is in the database: secrets.DB_DSN: {secret: …, key: …}." -}}
{{- end -}}
{{- if and .Values.admin.expose (not (hasKey $secrets "ADMIN_KEYS")) -}}
{{- $wrong = append $wrong "admin.expose: others can reach the port then, so name the Secret with its keys: secrets.ADMIN_KEYS: {secret: …, key: …}. Or leave it off, and use kubectl port-forward." -}}
{{- end -}}
{{- range $name, $_ := $secrets -}}
{{- if hasKey $settings $name -}}
{{- $wrong = append $wrong (printf "%s is in settings and in secrets: keep one." $name) -}}
{{- end -}}
{{- end -}}

{{- $secretNames := splitList "\n" (.Files.Get "files/secret-settings.txt" | trim) -}}
{{- /* SINK_EU_PLUGIN=postgres: SINK_EU_DSN is as secret as SINK_POSTGRES_DSN. */ -}}
{{- range $name, $plugin := $settings -}}
{{- if regexMatch "^SINK_[A-Z0-9_]+_PLUGIN$" $name -}}
{{- $own := printf "SINK_%s_" (include "hermes.text" $plugin | upper | replace "-" "_") -}}
{{- range $secretNames -}}
{{- if hasPrefix $own . -}}
{{- $secretNames = append $secretNames (printf "%s%s" (trimSuffix "PLUGIN" $name) (trimPrefix $own .)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range uniq $secretNames -}}
{{- if hasKey $settings . -}}
{{- $wrong = append $wrong (printf "settings.%s is a secret: secrets.%s: {secret: …, key: …}." . .) -}}
{{- end -}}
{{- end -}}

{{- $timeout := include "hermes.seconds" ($settings.SHUTDOWN_TIMEOUT | default "30s") | int64 -}}
{{- if gt $timeout 86400 -}}
{{- $wrong = append $wrong (printf "settings.SHUTDOWN_TIMEOUT=%s: at most 24h." $settings.SHUTDOWN_TIMEOUT) -}}
{{- end -}}
{{- if $disk -}}
{{- $journal := $settings.JOURNAL_MAX_BYTES | default "10GiB" -}}
{{- if ge (include "hermes.bytes" $journal | int64) (include "hermes.bytes" $ingest.persistence.size | int64) -}}
{{- $wrong = append $wrong (printf "settings.JOURNAL_MAX_BYTES=%s does not fit into ingest.persistence.size=%s: make the volume larger, for the dead letters too." (include "hermes.text" $journal) $ingest.persistence.size) -}}
{{- end -}}
{{- end -}}
{{- with dig "limits" "memory" "" $ingest.resources -}}
{{- $queue := $settings.QUEUE_BYTES | default "256MiB" -}}
{{- if ge (include "hermes.bytes" $queue | int64) (include "hermes.bytes" . | int64) -}}
{{- $wrong = append $wrong (printf "settings.QUEUE_BYTES=%s does not fit into ingest.resources.limits.memory=%s." (include "hermes.text" $queue) (include "hermes.text" .)) -}}
{{- end -}}
{{- end -}}
{{- if and $ingest.ingress.enabled (not $ingest.ingress.hosts) -}}
{{- $wrong = append $wrong "ingest.ingress: name at least one of its hosts." -}}
{{- end -}}

{{- if $wrong -}}
{{- fail (printf "\n\n  %s\n" (join "\n  " $wrong)) -}}
{{- end -}}
{{- end }}
