# RELAYHUB_ADD_FLAG(VARIABLE, FLAG)
# Appends FLAG to VARIABLE where the compiler and the linker take it without a word.
AC_DEFUN([RELAYHUB_ADD_FLAG],
[AS_VAR_PUSHDEF([known], [relayhub_cv_flag_$2])
AC_CACHE_CHECK([whether $CC takes $2], [known],
  [relayhub_saved_CFLAGS=$CFLAGS
   CFLAGS="$CFLAGS -Werror $2"
   AC_LINK_IFELSE([AC_LANG_PROGRAM([[#include <stdio.h>]], [[puts("")]])],
     [AS_VAR_SET([known], [yes])], [AS_VAR_SET([known], [no])])
   CFLAGS=$relayhub_saved_CFLAGS])
AS_VAR_IF([known], [yes], [AS_VAR_APPEND([$1], [" $2"])])
AS_VAR_POPDEF([known])])
