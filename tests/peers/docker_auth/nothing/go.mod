// Stands for a module that is named and not needed.
module gitee.com/travelliu/dm

go 1.18
