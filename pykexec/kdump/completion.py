"""The completions of ``pykdump``: scripts that ask the program, which answers as click does.

click's own scripts complete no file's name after ``--name=``.
"""

from __future__ import annotations

from collections.abc import Mapping

_BASH = r"""# pykdump completion for bash: source it, or put it into bash-completion/completions/pykdump

_pykdump() {
    local -a words=()
    local index word type value
    # Bash takes --name=value for three words.
    for ((index = 0; index <= COMP_CWORD; index++)); do
        word=${COMP_WORDS[index]}
        if ((index)) && [[ ${words[-1]} == --* ]] && [[ $word == = || ${words[-1]} == *= ]]; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
    done
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            plain) COMPREPLY+=("$value") ;;
            file) compopt -o default ;;
            dir) compopt -o dirnames ;;
        esac
    done < <(
        IFS=$'\n'
        env _PYKDUMP_COMPLETE=bash_complete COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1)) "$1"
    )
}
complete -o nosort -F _pykdump pykdump
"""

_ZSH = r"""#compdef pykdump

_pykdump() {
    local -a plain described response
    local type value text
    (( $+commands[pykdump] )) || return 1
    response=("${(@f)$(
        env _PYKDUMP_COMPLETE=zsh_complete COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT - 1)) pykdump
    )}")
    [[ $PREFIX == --*=* ]] && compset -P 1 '*='
    for type value text in $response; do
        case $type in
            file) _path_files -f ;;
            dir) _path_files -/ ;;
            plain) [[ $text == _ ]] && plain+=("$value") || described+=("$value:$text") ;;
        esac
    done
    (( $#described )) && _describe -V unsorted described -U
    (( $#plain )) && compadd -V unsorted -a plain
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _pykdump "$@"
else
    compdef _pykdump pykdump
fi
"""

_FISH = r"""# pykdump completion for fish: put it into ~/.config/fish/completions/pykdump.fish

function _pykdump
    set -l token (commandline -t)
    set -l option (string match -r -- '^--[^=]+=' "$token"; or echo)
    set -l words COMP_WORDS=(commandline -cp) COMP_CWORD="$token"
    for line in (env _PYKDUMP_COMPLETE=fish_complete $words pykdump)
        set -l answer (string split -m 1 , -- $line)
        switch $answer[1]
            case file
                string replace -r -- '^' $option (__fish_complete_path $answer[2])
            case dir
                string replace -r -- '^' $option (__fish_complete_directories $answer[2])
            case plain
                echo -- $option$answer[2]
        end
    end
end
complete --no-files --command pykdump --arguments "(_pykdump)"
"""

SCRIPTS: Mapping[str, str] = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
"""The completion script for each shell."""
